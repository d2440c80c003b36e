"""The figures and tables of the paper, one command each.

python -m autofocus_jax.experiments NAME --config C [--annotations FILE] --output DIR

Every experiment writes NAME.json, NAME.csv, NAME.svg and NAME.png into the folder of --output and prints its table,
with the paper's printed numbers beside ours where it printed some.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autofocus_jax.command.foreign_config import ForeignConfig, settled
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.config_file import command_line
from autofocus_jax.experiments import areas, focus_stats, losses, panels, recall, table, tradeoff, upper_bound
from autofocus_jax.experiments.result import write
from autofocus_jax.structures import AutoFocusError

PROGRAM = "python -m autofocus_jax.experiments"

# NAME -> a module with `Arguments`, a dataclass that inherits from inputs.Inputs, and run(arguments, config, track) ->
# Result. The first line of its docstring says in --help which figure it makes. What needs JAX is imported inside run.
EXPERIMENTS: dict[str, ModuleType] = {
    "areas": areas,
    "focus_stats": focus_stats,
    "upper_bound": upper_bound,
    "losses": losses,
    "recall": recall,
    "tradeoff": tradeoff,
    "table": table,
    "panels": panels,
}


def run(name: str, argv: Sequence[str], console: Console) -> None:
    """Runs an experiment with its command line, writes its files and prints its table."""
    experiment = EXPERIMENTS[name]
    description = (
        f"{experiment.__doc__.strip()}\n\nWith --config, --help lists the config's settings too; each is an option."
    )
    kinds = Config, ForeignConfig
    arguments, config = command_line(experiment.Arguments, argv, f"{PROGRAM} {name}", description, kinds)
    if isinstance(config, ForeignConfig) and arguments.annotations is not None:
        raise ConfigError("--annotations and --images go with a Config; give --data.annotations and --data.images")
    config = settled(config, arguments.split, lambda line: console.print(line, highlight=False, markup=False))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        track = lambda items, what, total=None: progress.track(items, total, description=what)  # noqa: E731
        result = experiment.run(arguments, config, track)
    files = write(result, Path(arguments.output), name)
    for each in result.tables:
        console.print(each)
    for note in result.notes:
        console.print(note, highlight=False, markup=False)
    console.print(f"written: {', '.join(map(str, files))}", soft_wrap=True, highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code. What goes wrong for the user's reasons is one line on stderr."""
    argv = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    try:
        if argv and argv[0] in ("-h", "--help"):
            _help(console)
            return 0
        if not argv or argv[0] not in EXPERIMENTS:
            came = repr(argv[0]) if argv else "nothing"
            raise ConfigError(f"want the name of an experiment first, got {came}; one of {', '.join(EXPERIMENTS)}")
        run(argv[0], argv[1:], console)
    except AutoFocusError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("experiments: interrupted", file=sys.stderr)
        return 130
    return 0


def _help(console: Console) -> None:
    console.print(f"usage: {PROGRAM} NAME --config C [options]\n", markup=False)
    names = Table("NAME", "what it makes", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, experiment in EXPERIMENTS.items():
        names.add_row(name, experiment.__doc__.strip().splitlines()[0])
    console.print(names)
    last = __doc__.strip().split("\n\n")[-1]
    console.print(f"{last}\n\n`{PROGRAM} NAME --config C --help` lists what one can be told.", markup=False)


if __name__ == "__main__":
    sys.exit(main())
