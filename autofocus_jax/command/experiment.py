"""`autofocus experiment`: the figures and tables of the paper."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from autofocus_jax.command.console import Screen
from autofocus_jax.command.options import any_config
from autofocus_jax.config import ConfigError
from autofocus_jax.config.load import command_line

# NAME -> what it makes. The module experiments.NAME has `Arguments`, a dataclass that inherits from inputs.Inputs, and
# run(arguments, config, track) -> Result. What needs JAX is imported inside run.
EXPERIMENTS = {
    "areas": "Fig. 1: share of the objects and of the image area that is small, medium and large",
    "focus_stats": "Section 5.1: share of each level that is FocusPixels, by ground truth",
    "upper_bound": "Fig. 5: fewer pixels than the pyramid with a perfect focus map, against the least chip",
    "losses": "Section 5.1: what a detector's pixels go to, from FocusPixels over perfect maps to padded chips",
    "recall": "Fig. 6: share of the small objects that FocusPixels and FocusChips find, against their area",
    "tradeoff": "Fig. 7 and section 5.4: AP against pixels",
    "chip_rules": "Section 5.4: the chip rules of a config, chosen on its tune split",
    "table": "Tables 1 and 2: AP, pixels and speed of every row, the paper's beside ours",
    "panels": "Fig. 2, 4 and 8: FocusPixels over the scales, chips before and after stacking, the whole pipeline",
}
_HELP = """usage: autofocus experiment NAME --config C --output DIR [options]

Writes NAME.json, NAME.csv, NAME.svg and NAME.png into DIR and prints the table, with the paper's printed numbers beside
ours where it printed some.

{names}

autofocus experiment NAME --help explains the options; with --config, the config's settings too."""


def run(words: Sequence[str], console: Screen) -> int:
    """Run an experiment with its command line, write its files and print its table; return the exit code."""
    name, *rest = words or [""]
    if name in ("-h", "--help"):
        width = max(map(len, EXPERIMENTS))
        names = "\n".join(f"  {key:<{width}}  {what}" for key, what in EXPERIMENTS.items())
        console.print(_HELP.format(names=names), soft_wrap=True)
        return 0
    if name not in EXPERIMENTS:
        raise ConfigError(f"want the name of an experiment first, got {name!r}; one of {', '.join(EXPERIMENTS)}")
    experiment = importlib.import_module(f"autofocus_jax.experiments.{name}")
    program = f"autofocus experiment {name}"
    arguments, config = command_line(experiment.Arguments, rest, program, experiment.__doc__, any_config)
    # Here, so that --help answers at once.
    from autofocus_jax.command.foreign_config import ForeignConfig, settled
    from autofocus_jax.experiments.result import write

    if isinstance(config, ForeignConfig) and arguments.annotations is not None:
        raise ConfigError("--annotations and --images go with a Config; give --data.annotations and --data.images")
    config = settled(config, arguments.split, console.say)

    with console.progress() as progress:
        track = lambda items, what, total=None: progress.track(items, total, description=what)  # noqa: E731
        result = experiment.run(arguments, config, track)
    files = write(result, Path(arguments.output), name)
    for each in result.tables:
        console.print(each)
    for note in result.notes:
        console.say(note)
    console.say(f"written: {', '.join(map(str, files))}")
    return 0
