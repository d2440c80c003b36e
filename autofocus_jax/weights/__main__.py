"""python -m autofocus_jax.weights: the same as `autofocus convert`."""

import sys

from autofocus_jax.command.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
