"""The command `autofocus`: finds the sub-command, reads its options, turns what goes wrong into one line and a code."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from autofocus_jax.command.console import Screen
from autofocus_jax.command.stopping import exit_code, stoppable, word
from autofocus_jax.machine.terminal import printable
from autofocus_jax.structures import AutoFocusError

PROGRAM = "autofocus"


class Command(NamedTuple):
    """A sub-command NAME. Its options are those of command.options.NAME, which imports nothing that is slow to import.

    Its work is `run` of command.NAME: (arguments, screen) -> exit code, or (arguments, config, screen) -> exit code
    with `settings`. In both module names _ stands for -.
    """

    what: str  # it does
    settings: bool = False  # it wants a config file, whose settings are options too
    foreign: bool = False  # that may be of a detector that is not ours
    interrupted: str = ""  # what holds when it was interrupted
    renamed: Mapping[str, str] = MappingProxyType({})  # options of older versions -> those of today


COMMANDS = {
    "detect": Command("find objects in images, folders of images and videos"),
    "batch": Command("find objects in more images than one machine does, with Ray, into a Parquet data set"),
    "suggest": Command("propose scales, valid ranges, chips and buckets for a data set, and write a config"),
    "train": Command(
        "train a detector on SNIPER's chips, or go on with a training", True, False,
        "the same command goes on from the last checkpoint", {"--weights": "--initial"},
    ),
    "evaluate": Command(
        "measure each scale alone, the full pyramid and AutoFocus on a data set", True, True,
        "what was finished is kept, --resume goes on", {"--checkpoint": "--weights", "--workdir": "--output"},
    ),
    "inspect": Command("report on a data set: counts, sizes, classes, problems, sample pictures"),
    "compare": Command("measure a detector that you have: whole, in slices, and looking closer where it pays"),
    "learn": Command("learn where a detector that you have finds small things, to look again there alone",
                     interrupted="the same command goes on from what the detector found"),
    "check-detector": Command("show how a detector in an ONNX file is understood, and what it finds in a photograph"),
    "buckets": Command("choose the buckets of a config: the padded shapes that waste the fewest pixels", True),
    "convert": Command("turn weights of other programs into this program's format", True, False, "nothing was written"),
    "experiment": Command(
        "make a figure or a table of the paper", True, renamed={"--checkpoint": "--weights"},
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; return its exit code. Errors for the user become one line on stderr."""
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
    code = 1
    try:
        with stoppable():
            return _run(name, rest, Screen.standard())
    except AutoFocusError as error:
        text = str(error)
    except OSError as error:
        text = f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)):
            raise
        text = ("the memory is used up; make smaller what it holds: training.batch in a training, else the finest "
                "scale or the batches of the buckets")  # fmt: skip
    except SystemExit as stop:  # of --help
        return int(stop.code or 0)
    except KeyboardInterrupt as error:
        code, text = exit_code(error), "; ".join(filter(None, [word(error), COMMANDS[name].interrupted]))
    print(f"{PROGRAM} {name}: {printable(text)}", file=sys.stderr)
    return code


def usage() -> str:
    """Return what `autofocus --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.what}" for name, command in COMMANDS.items()]
    return "\n".join([
        f"usage: {PROGRAM} COMMAND [options]", "",
        "AutoFocus: object detection coarse to fine; what is small is looked at again, enlarged.", "",
        *lines, "",
        f"{PROGRAM} COMMAND --help explains the options of a command.",
    ])  # fmt: skip


def _run(name: str, words: list[str], screen: Screen) -> int:
    from autofocus_jax.command.options import any_config
    from autofocus_jax.config import ConfigError
    from autofocus_jax.config.load import command_line, parse

    command, module = COMMANDS[name], name.replace("-", "_")
    for option in (given.partition("=")[0] for given in words):
        if option in command.renamed:
            raise ConfigError(f"{option} is no option any more; give {command.renamed[option]}")
    if name == "experiment":
        from autofocus_jax.command.experiment import run

        return run(words, screen)
    options = importlib.import_module(f"autofocus_jax.command.options.{module}")
    given: tuple[Any, ...]
    if command.settings:
        kinds = {"kinds": any_config} if command.foreign else {}
        given = command_line(options.Arguments, words, f"{PROGRAM} {name}", options.__doc__, **kinds)
    else:
        given = (parse(options.Arguments, words, prog=f"{PROGRAM} {name}", description=options.__doc__),)
    return importlib.import_module(f"autofocus_jax.command.{module}").run(*given, screen)
