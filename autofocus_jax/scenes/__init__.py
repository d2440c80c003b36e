"""The rendered data set and its source."""
