"""`autofocus train`: the whole run of a training, from the data source to validated weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from autofocus_jax import parallel
from autofocus_jax.command import stage, validation
from autofocus_jax.command.console import Screen
from autofocus_jax.command.options.train import Arguments
from autofocus_jax.command.proposals import run_stage
from autofocus_jax.command.workdir import began, started_from, workdir_ledger
from autofocus_jax.config import Config
from autofocus_jax.config.load import to_dict
from autofocus_jax.data.annotations import NoSplitError
from autofocus_jax.data.cleaning import open_clean
from autofocus_jax.data.findings import Findings
from autofocus_jax.detector.api import Variables
from autofocus_jax.ledger import data_identity
from autofocus_jax.machine import heap
from autofocus_jax.structures import Dataset
from autofocus_jax.training import curves, log, proposals
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step, variables
from autofocus_jax.weights import checkpoint, initial, safetensors
from autofocus_jax.weights.safetensors import WeightsError


def train(arguments: Arguments, config: Config, console: Screen, held: contextlib.ExitStack) -> None:
    """Train from the data source, and from --initial if given, to validated weights.

    With several processes the first one alone writes the workdir, which `held` locks for this run.
    """
    workdir = Path(arguments.workdir or f"runs/{config.name}")
    found = Findings()
    dataset = open_clean(config, "train", found, strict=arguments.strict)
    stage.warn(console, found.lines())
    split, images = arguments.validation_split, arguments.validation_images
    try:
        validate = validation.validator(config, split, images, dataset.categories)
    except NoSplitError as error:
        if images is not None:
            raise
        console.say(f"no validation: {error}")
        validate = None
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
    console.say(f"{seconds / 60:.1f} min of training in all; weights in {path}, curves in {workdir / curves.PICTURE}")
    if validate is not None and scores is None:  # nothing was left to train
        console.say(validation.line(validate(weights, None)))


def start(
    arguments: Arguments,
    config: Config,
    dataset: Dataset,
    workdir: Path,
    console: Screen,
    held: contextlib.ExitStack,
) -> tuple[Callable[[Variables], Variables], Mapping[str, str] | None]:
    """Return the variables to begin with, as a function of the random ones, and their origin.

    The origin is file and sha256 of --initial, or of the file that the workdir was started from. Writes config.json and
    locks the workdir until `held` is closed.

    Raises:
        LedgerError: the workdir was trained with other settings or data, or is in use.
        WeightsError: the workdir was started from another file.
    """
    given = None if arguments.initial is None else safetensors.find(arguments.initial)
    source: Mapping[str, str] | None = None if given is None else {"file": str(given), "sha256": initial.digest(given)}
    going_on = bool(checkpoint.steps(workdir))
    source = started_from(workdir, source)
    if source is not None and not going_on and initial.digest(source["file"]) != source["sha256"]:
        raise WeightsError(f"{source['file']}, from which {workdir} was started, has changed; put it back")
    found = None if source is None or going_on else initial.read(source["file"], config)
    if parallel.process()[0] == 0:
        ledger = workdir_ledger(config, workdir, data_identity(dataset, boxes=True), source, dataset.categories)
        claim = ledger.claim(anew=not began(workdir), accept=arguments.accept_changes)
        for line in held.enter_context(claim):
            console.say(f"changed: {line}")
    if arguments.initial is not None and going_on:
        console.say(f"--initial {arguments.initial} is what it started from, and is not read again")
    if found is None:
        return lambda drawn: drawn, source
    for line in initial.summary(found, source["file"]):
        console.say(line)
    return partial(initial.put, found), source


def run(arguments: Arguments, config: Config, console: Screen) -> int:
    """Run the command; return its exit code. With several processes all run it, and the first one alone prints."""
    heap.share_one()
    heap.keep_freed()  # on a CPU a step is a third shorter where its arrays are not new memory every time
    parallel.join(arguments.coordinator, arguments.processes, arguments.process)
    parallel.cache_compilations()
    console.quiet = parallel.process()[0] > 0
    with contextlib.ExitStack() as held:
        train(arguments, config, console, held)
    return 0
