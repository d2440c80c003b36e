"""Trains a detector on SNIPER's chips; the same as `autofocus train`."""

import sys

from autofocus_jax.command.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
