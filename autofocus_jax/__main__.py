"""python -m autofocus_jax: the same as the command `autofocus`."""

import sys

from autofocus_jax.command.main import main

if __name__ == "__main__":
    sys.exit(main())
