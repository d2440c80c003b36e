"""Programs that choose or measure something over a whole data set."""
