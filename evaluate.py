"""Evaluates a detector: every scale alone, the full image pyramid and AutoFocus; the same as `autofocus evaluate`."""

import sys

from autofocus_jax.command.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
