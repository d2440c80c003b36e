"""Inference: one compiled program per bucket, and the engine that feeds it."""
