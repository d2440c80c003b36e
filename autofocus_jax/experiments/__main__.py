"""python -m autofocus_jax.experiments: the same as `autofocus experiment`."""

import sys

from autofocus_jax.command.main import main

if __name__ == "__main__":
    sys.exit(main(["experiment", *sys.argv[1:]]))
