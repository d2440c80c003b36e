"""Trains a detector: python train.py --config configs/demo.py --workdir runs/demo

Goes on from the newest checkpoint of the workdir, if there is one; else starts from random weights, or from those of
--initial. Ends with model.safetensors in the workdir and with an evaluation of AutoFocus on the validation images.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import rich.progress
from rich.console import Console

from autofocus_jax import checkpoint, evaluation
from autofocus_jax.config import Config, ConfigError, open_split
from autofocus_jax.config_file import command_line, differences, to_dict
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.structures import AutoFocusError
from autofocus_jax.training import loop, pipeline
from autofocus_jax.training.optimizer import optimizer, schedule
from autofocus_jax.training.step import initial_state, make_step, variables
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
    """Images of the validation at the end; 0 for none."""
    initial: str | None = None
    """A .safetensors file to start from, as a converted backbone or a whole detector; what does not fit stays random.
    A workdir that was started from it goes on without reading it again."""


def train(config: Config, workdir: Path, console: Console, validation_images: int, file: str | None = None) -> None:
    """The whole run, from the data source, and weights to start from if there is a file of them, to validated ones."""
    if validation_images < 0:
        raise ConfigError(f"--validation-images {validation_images}; want 0 or more")
    dataset = open_split(config, "train")
    if validation_images:
        open_split(config, "val")  # what is wrong with it must not come out after hours of training
    given = None if file is None else {"file": str(file), "sha256": initial.digest(file)}
    found = None if file is None or checkpoint.exists(workdir) else initial.read(file, config)
    source = keep_config(config, workdir, given)
    transform = optimizer(config.training)
    if found is None:
        state = initial_state(config, transform)
    else:
        state = initial_state(config, transform, partial(initial.put, found))
        for line in initial.summary(found, file):
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    step = jax.jit(make_step(config, transform), donate_argnums=0)
    rate = schedule(config.training)
    start = time.perf_counter()
    with checkpoint.manager(workdir) as checkpoints, open(workdir / "log.jsonl", "a", encoding="utf-8") as log:
        if checkpoints.latest_step() is not None:
            state = checkpoint.restore(checkpoints, state)
            console.print(f"going on from step {int(state.step)} of {workdir}")
            if file is not None:
                console.print(f"--initial {file} is what it started from, and is not read again", soft_wrap=True)
        first = int(state.step)
        chips = pipeline.chip_list(dataset, config, config.training.steps * config.training.batch)
        batches = pipeline.batches(dataset, chips, config, first)
        with progress_bar(console) as progress:
            task = progress.add_task("training", total=config.training.steps, completed=first, loss="")

            def on_log(entry: dict) -> None:
                entry |= {"learning_rate": float(rate(entry["step"])), "seconds": time.perf_counter() - start}
                log.write(json.dumps(entry) + "\n")
                log.flush()
                parts = [f"{name} {entry[name]:.3f}" for name in loop.LOSSES]
                text = f"{', '.join(parts)}, {entry['chips_per_second']:.1f} chips/s"
                progress.update(task, completed=entry["step"], loss=text)
                if not console.is_terminal:
                    console.print(f"step {entry['step']}/{config.training.steps}: {text}", soft_wrap=True)

            state = loop.run(step, state, batches, config.training, on_log, lambda s: checkpoint.save(checkpoints, s))
    seconds = time.perf_counter() - start
    facts = {"categories": list(dataset.categories), "steps": config.training.steps, "training_seconds": round(seconds)}
    facts |= {"initial": source} if source else {}
    path = workdir / "model.safetensors"
    weights = jax.device_get(variables(state))
    safetensors.save(path, weights, to_dict(config), facts)
    console.print(f"{seconds / 60:.1f} min; weights in {path}", soft_wrap=True)
    if validation_images:
        validate(config, weights, console, validation_images)


def validate(config: Config, weights: checkpoint.Variables, console: Console, count: int) -> None:
    """Prints the AP of AutoFocus on the first images of the validation split."""
    dataset = open_split(config, "val")
    row = evaluation.rows(config)[-1]
    detect = compile_detector(config, weights)
    measured = evaluation.measure(config, row, detect, dataset, range(min(count, len(dataset))))
    scores = evaluation.metrics(measured)
    points = ", ".join(f"{key} {'-' if scores[key] is None else format(scores[key], '.1f')}" for key in ("AP", "AP50"))
    done = f"{row.name} on {len(measured.run.indices)} validation images"
    console.print(f"{done}: {points}, side {scores['side']:.0f}", soft_wrap=True)


def keep_config(config: Config, workdir: Path, given: dict | None) -> dict | None:
    """Writes config.json into the workdir, with what the training starts from as its "initial", and returns that.

    given: file and sha256 of --initial. Where the workdir has a checkpoint, what that one started from is kept.
    Raises ConfigError when it was trained with settings that differ in what shapes the run, or not from what is given.
    """
    evaluation.make_folder(workdir)
    now = to_dict(config)
    if checkpoint.exists(workdir):  # else nothing was trained here yet
        before = checkpoint.trained_with(workdir)
        source = before.pop("initial", None)
        changed = differences(before, now) if before else []
        if changed:
            raise ConfigError(
                f"{workdir} was trained with another config ({'; '.join(changed)}); use another --workdir"
            )
        if given is not None and given["sha256"] != (source or {}).get("sha256"):
            started = source["file"] if source else "random weights"
            raise WeightsError(
                f"--initial {given['file']}, but {workdir} was started from {started}; leave --initial out to go on "
                "there, or use another --workdir"
            )
        given = source
    evaluation.write_json(workdir / "config.json", now | ({"initial": given} if given else {}))
    return given


def progress_bar(console: Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        "[progress.description]{task.description}", rich.progress.BarColumn(bar_width=20),
        rich.progress.MofNCompleteColumn(), rich.progress.TimeRemainingColumn(), "{task.fields[loss]}",
        console=console, disable=not console.is_terminal,
    )  # fmt: skip


def run(argv: Sequence[str], console: Console, prog: str = "autofocus train") -> int:
    """The command; returns its exit code."""
    arguments, config = command_line(Arguments, argv, prog=prog, description=__doc__)
    workdir = Path(arguments.workdir or f"runs/{config.name}")
    train(config, workdir, console, arguments.validation_images, arguments.initial)
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
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
