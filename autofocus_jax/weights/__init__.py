"""Weights on disk: one file per foreign or own format."""
