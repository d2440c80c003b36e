"""Facts and settings of the machine: cores, the heap of the C library, the terminal."""
