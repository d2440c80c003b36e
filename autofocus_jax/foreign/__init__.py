"""Detectors that are not ours, each reduced to one function: crops -> boxes, scores and labels."""
