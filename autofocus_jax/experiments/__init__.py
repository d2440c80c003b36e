"""The figures and tables of the paper, and programs that choose something over a whole data set."""
