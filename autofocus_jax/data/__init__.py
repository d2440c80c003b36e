"""Sources of images and boxes; each opens as a structures.Dataset."""
