"""Pictures for people: boxes, panels of what a cascade did, training chips."""
