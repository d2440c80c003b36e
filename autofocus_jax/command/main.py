"""The command `autofocus`: finds the sub-command, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from autofocus_jax.command.memory import USED_UP, used_up
from autofocus_jax.command.stopping import exit_code, word
from autofocus_jax.structures import AutoFocusError
from autofocus_jax.terminal import Terminal, complain

# Sub-command -> what it does. Its module is autofocus_jax.command.NAME (with _ for -), with run(argv, console) -> exit
# code; it is imported only when it is called, so that help and the commands that need no detector start at once.
COMMANDS = {
    "detect": "find objects in images, folders of images and videos",
    "batch": "find objects in more images than one machine does, with Ray, into a Parquet data set",
    "suggest": "propose scales, valid ranges, chips and buckets for a data set, and write a config",
    "train": "train a detector on SNIPER's chips, or go on with a training",
    "evaluate": "measure each scale alone, the full pyramid and AutoFocus on a data set",
    "inspect": "report on a data set: counts, sizes, classes, problems, sample pictures",
    "compare": "measure a detector that you have: whole, in slices, and looking closer where it pays",
    "check-detector": "show how a detector in an ONNX file is understood, and what it finds in a photograph",
}

PROGRAM = "autofocus"


def usage() -> str:
    """What `autofocus --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join([
        f"usage: {PROGRAM} COMMAND [options]", "",
        "AutoFocus: object detection coarse to fine; what is small is looked at again, enlarged.", "",
        *lines, "",
        f"{PROGRAM} COMMAND --help explains the options of a command.",
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a sub-command; returns its exit code. What goes wrong for the user's reasons is one line on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    name, *rest = words
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {close[0]}?" if close else f"want one of {', '.join(COMMANDS)}"
        print(f"{PROGRAM}: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    module, program = importlib.import_module(f"autofocus_jax.command.{name.replace('-', '_')}"), f"{PROGRAM} {name}"
    try:
        return module.run(rest, Terminal())
    except AutoFocusError as error:
        complain(program, error)
        return 1
    except OSError as error:
        complain(program, f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")
        return 1
    except (MemoryError, RuntimeError) as error:
        if not used_up(error):
            raise
        complain(program, USED_UP)
        return 1
    except KeyboardInterrupt as error:
        complain(program, word(error))
        return exit_code(error)
