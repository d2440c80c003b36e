"""Detection over more images than one machine does: pieces of an input, each one whole file of the output."""
