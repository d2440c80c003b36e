"""What the machine gives: cores, the heap of the C library, a terminal."""
