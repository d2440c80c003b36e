"""Trains a detector: python train.py --config configs/demo.py --workdir runs/demo

Goes on from the newest checkpoint of the workdir, if there is one; else starts from random weights, or from those of
--initial. Ends with model.safetensors in the workdir and with an evaluation of AutoFocus on the validation images.
SIGTERM and Ctrl-C save and stop; the same command goes on, to the bit as if it had not been stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console

from autofocus_jax import checkpoint, heap, parallel
from autofocus_jax.command import stage, validation
from autofocus_jax.command.memory import USED_UP, used_up
from autofocus_jax.command.proposals import run_stage
from autofocus_jax.command.workdir import began, started_from, workdir_ledger
from autofocus_jax.config import Config
from autofocus_jax.config_file import command_line, to_dict
from autofocus_jax.data.cleaning import open_clean
from autofocus_jax.data.findings import Findings
from autofocus_jax.detector.api import Variables
from autofocus_jax.ledger import data_identity
from autofocus_jax.structures import AutoFocusError, Dataset
from autofocus_jax.training import curves, log, proposals
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step, variables
from autofocus_jax.training.stopping import StoppedError
from autofocus_jax.weights import initial, safetensors
from autofocus_jax.weights.safetensors import WeightsError


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains a detector and validates it."""

    config: str
    """Config file, as configs/demo.py."""
    workdir: str | None = None
    """Where checkpoints, log and weights go; default runs/NAME of the config."""
    validation_images: int = 100
    """Images of a validation, at the end and every training.validate_every steps; 0 for none."""
    validation_split: str = "val"
    """Which images of the data source those are; "tune", where there is one, when the best checkpoint is to be used."""
    initial: str | None = None
    """A .safetensors file to start from, as a converted backbone or a whole detector, or "demo", the shipped weights of
    rendered scenes, for the small network of `autofocus suggest`. What does not fit stays random.
    A workdir that was started from it goes on without reading it again."""
    stage: Literal["all", "proposals", "detector"] = "all"
    """Only train region proposals and write proposals.npz, for negative chips; or only what follows; or both."""
    accept_changes: bool = False
    """Go on in a workdir that was trained with another config, with the settings of this one."""
    strict: bool = False
    """Refuse training data that have something wrong in them, before training; else it is only reported."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes that train together; "auto" asks the cluster"""
    processes: int | None = None
    """how many processes there are; each is given the same command and its own --process"""
    process: int | None = None
    """number of this process, 0 to --processes - 1"""


def train(arguments: Arguments, config: Config, console: Console) -> None:
    """The whole run, from the data source, and weights to start from if there is a file of them, to validated ones.

    Of several processes all run it; the first one alone prints and writes the workdir.
    """
    with contextlib.ExitStack() as held:
        _train(arguments, config, console, held)


def _train(arguments: Arguments, config: Config, console: Console, held: contextlib.ExitStack) -> None:
    workdir = Path(arguments.workdir or f"runs/{config.name}")
    validate = validation.validator(config, arguments.validation_split, arguments.validation_images)
    found = Findings()
    dataset = open_clean(config, "train", found, strict=arguments.strict)
    stage.warn(console, found.lines())
    over, transform = parallel.mesh(), optimizer(config)
    step = make_step(config, transform, over)
    put, source = start(arguments, config, dataset, workdir, console, held)
    wanted = config.training.negative_chips > 0
    if arguments.stage == "proposals" or (wanted and arguments.stage == "all"):
        run_stage(config, dataset, workdir, console, put, arguments.accept_changes, found)
    if arguments.stage == "proposals":
        return
    boxes = proposals.read(workdir / "proposals.npz", dataset) if wanted else None
    main_stage = stage.Stage("training", config, dataset, workdir, step, over, found, boxes, validate)
    state, scores = stage.run(main_stage, initial_state(config, transform, put), console)
    if parallel.process()[0]:
        return
    seconds = log.seconds(workdir, config.training.batch)
    weights, path = parallel.fetch(variables(state)), workdir / "model.safetensors"
    facts = {"categories": list(dataset.categories), "steps": config.training.steps, "training_seconds": round(seconds)}
    safetensors.save(path, weights, to_dict(config), facts | ({"initial": source} if source else {}))
    console.print(f"{seconds / 60:.1f} min of training in all; weights in {path}, curves in {workdir / curves.PICTURE}",
                  soft_wrap=True)  # fmt: skip
    if validate is not None and scores is None:  # nothing was left to train
        console.print(validation.line(validate(weights, None)), soft_wrap=True)


def start(
    arguments: Arguments,
    config: Config,
    dataset: Dataset,
    workdir: Path,
    console: Console,
    held: contextlib.ExitStack,
) -> tuple[Callable[[Variables], Variables], dict | None]:
    """What variables to begin with, out of those drawn at random, and where they come from: file and sha256 of the
    file of --initial, or of the one that the workdir was started from.

    Writes config.json and, until `held` is closed, keeps other trainings out of the workdir. Raises LedgerError when
    the workdir was trained with other settings or data, or is in use, and WeightsError when with another file.
    """
    given = None if arguments.initial is None else safetensors.named(arguments.initial)
    source = None if given is None else {"file": str(given), "sha256": initial.digest(given)}
    going_on = bool(checkpoint.steps(workdir))
    source = started_from(workdir, source)
    if source is not None and not going_on and initial.digest(source["file"]) != source["sha256"]:
        raise WeightsError(f"{source['file']}, from which {workdir} was started, has changed; put it back")
    found = None if source is None or going_on else initial.read(source["file"], config)
    if parallel.process()[0] == 0:
        ledger = workdir_ledger(config, workdir, data_identity(dataset, boxes=True), source, dataset.categories)
        claim = ledger.claim(anew=not began(workdir), accept=arguments.accept_changes)
        for line in held.enter_context(claim):
            console.print(f"changed: {line}", soft_wrap=True, markup=False, highlight=False)
    if arguments.initial is not None and going_on:
        console.print(f"--initial {arguments.initial} is what it started from, and is not read again", soft_wrap=True)
    if found is None:
        return lambda drawn: drawn, source
    for line in initial.summary(found, source["file"]):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return partial(initial.put, found), source


def run(argv: Sequence[str], console: Console, prog: str = "autofocus train") -> int:
    """The command; returns its exit code: 0, or 128 and the signal's number when it was asked to stop."""
    arguments, config = command_line(Arguments, argv, prog=prog, description=__doc__)
    heap.share_one()
    heap.keep_freed()  # on a CPU a step is a third shorter where its arrays are not new memory every time
    parallel.join(arguments.coordinator, arguments.processes, arguments.process)
    parallel.cache_compilations()
    console.quiet = parallel.process()[0] > 0
    try:
        train(arguments, config, console)
    except StoppedError as stopped:
        console.print(f"{stopped}; everything is saved, and the same command goes on from there", soft_wrap=True)
        return 128 + stopped.signal
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """train.py; returns its exit code. What goes wrong for the user's reasons is one line on stderr."""
    try:
        return run(sys.argv[1:] if argv is None else argv, Console(), "train.py")
    except OSError as error:
        print(f"train.py: {error.filename or 'a file'} cannot be used: {error.strerror or error}", file=sys.stderr)
        return 1
    except AutoFocusError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not used_up(error):
            raise
        print(f"train.py: {USED_UP}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
