"""Metrics: average precision of COCO and of PASCAL VOC, and recall of FocusPixels and FocusChips against area."""
