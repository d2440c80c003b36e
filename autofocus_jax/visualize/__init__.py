"""Pictures: boxes, panels of a cascade, training chips."""
