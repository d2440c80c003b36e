"""Choices made before a run, on the host: scales, padded shapes, chip rules, budgets."""
