"""Training: from a source of images and boxes to weights."""
