"""Reports: one HTML file with tables, a plot and photographs, that opens without a server or a network."""
