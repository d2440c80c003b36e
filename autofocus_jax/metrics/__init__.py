"""Metrics: COCO average precision, and recall of FocusPixels and FocusChips against area."""
