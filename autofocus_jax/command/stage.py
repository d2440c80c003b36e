"""One stage of a training: from the newest checkpoint of its folder, or from a given state, to the last step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from autofocus_jax import parallel
from autofocus_jax.command import stopping, validation
from autofocus_jax.command.console import Screen
from autofocus_jax.config import Config
from autofocus_jax.config.load import to_dict
from autofocus_jax.data.findings import UNREADABLE, Findings
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.structures import Dataset, TrainBatch, TrainState
from autofocus_jax.training import curves, log, loop, pipeline
from autofocus_jax.training.optimizer import schedule
from autofocus_jax.training.pipeline import Position
from autofocus_jax.training.sampling import Proposals
from autofocus_jax.training.step import variables
from autofocus_jax.visualize import training as panels
from autofocus_jax.weights import checkpoint

PANELS = 6  # chips that are drawn at a validation
PARTS = ("loss", "chips_per_second", "data_wait", "learning_rate", "gradient_norm")  # of a log, what is no loss


@dataclasses.dataclass(frozen=True)
class Stage:
    """Settings and parts of one stage of a training.

    Attributes:
        config: its training.steps are those of this stage.
        folder: of checkpoints and log.
        step: (state, batch) -> (state, info), not jitted, over the devices of `over`.
        proposals: for negative chips.
        problems: collects images that cannot be read.
        validate: None for no validation in this stage.
    """

    name: str
    config: Config
    dataset: Dataset
    folder: Path
    step: loop.Step
    over: Mesh
    problems: Findings
    proposals: Proposals | None = None
    validate: validation.Validate | None = None


def run(stage: Stage, state: TrainState, console: Screen) -> tuple[TrainState, Mapping[str, Any] | None]:
    """Train until the last step. Return the last state and the scores of its validation, if this run validated it.

    With several processes all call this; the first one alone reads and writes the folder.

    Args:
        stage: the settings and parts.
        state: the state to begin with if the folder has no checkpoint.
        console: prints progress.

    Raises:
        Stopped: a signal asked to stop; everything is saved.
        DivergenceError: the training diverged.
        CheckpointError: no checkpoint can be read.
    """
    training, (process, processes) = stage.config.training, parallel.process()
    with contextlib.ExitStack() as stack:
        checkpoints = None
        if process == 0:
            stage.folder.mkdir(parents=True, exist_ok=True)
            warn(console, checkpoint.put_aside(stage.folder))
            checkpoints = stack.enter_context(checkpoint.manager(stage.folder, training.checkpoints_kept))
        state, position = _resume(checkpoints, state)
        first = int(state.step)
        if first:
            console.say(f"going on from step {first} of {stage.folder}")
        writer = stack.enter_context(log.open_log(stage.folder, first, write=process == 0))
        progress = stack.enter_context(console.progress())
        request = stack.enter_context(stopping.requests(parallel.asked_to_stop if processes > 1 else None))
        unreadable = partial(stage.problems.add, UNREADABLE)
        source = stage.dataset, stage.config, position, stage.proposals, (process, processes), unreadable
        batches = stack.enter_context(contextlib.closing(pipeline.Batches(*source)))
        latest: list[TrainBatch] = []
        seen: list[Mapping[str, Any]] = []

        def put(batch: TrainBatch) -> TrainBatch:
            latest[:] = [batch]
            return parallel.split(batch, stage.over)

        def on_save(state: TrainState, position: Position, scores: Mapping[str, Any] | None) -> None:
            if checkpoints is not None:
                checkpoint.save(checkpoints, state, position, to_dict(stage.config), validation.score(scores))

        hooks = loop.Hooks(
            _on_log(stage, console, writer, progress, first), on_save,
            _on_validate(stage, console, writer, request, latest, seen) if stage.validate else None,
            partial(_on_divergence, stage.config), request,
        )  # fmt: skip
        step = jax.jit(stage.step, donate_argnums=0)
        state = loop.run(step, parallel.replicate(state, stage.over), batches, training, hooks, put)
        last = int(state.step)
        if request.signal is not None and last < training.steps:
            raise stopping.Stopped(request.signal, last)
    if process == 0:
        curves.draw(stage.folder)
    return state, seen[0] if seen and last > first else None


def _on_log(stage: Stage, console: Screen, writer: log.Log, progress: Any, first: int) -> Callable[[dict], None]:
    """The hook that logs a step and shows it."""
    training, rate = stage.config.training, schedule(stage.config.training)
    task = progress.add_task(stage.name, total=training.steps, completed=first)

    def on_log(entry: dict[str, float]) -> None:
        number = int(entry.pop("step"))
        entry["learning_rate"] = float(rate(number - 1))  # optax counts steps from 0
        writer.scalars(number, entry)
        text = _summary(entry)
        left = (training.steps - number) * training.batch / entry["chips_per_second"] / 60
        progress.update(task, completed=number, text=text)
        if not console.is_terminal:
            shown = f", {left:.0f} min left" if left >= 0.5 else ""
            console.say(f"{stage.name}, step {number}/{training.steps}: {text}{shown}")
        warn(console, stage.problems.lines(new=True))

    return on_log


def _on_validate(
    stage: Stage, console: Screen, writer: log.Log, request: Any, latest: list[TrainBatch],
    seen: list[Mapping[str, Any]],
) -> Callable[[TrainState], Mapping[str, Any]]:  # fmt: skip
    """The hook that validates a state, in the first process alone; `seen` then holds its scores."""
    draw, validate = _drawing(stage.config, stage.dataset.categories), stage.validate

    def on_validate(state: TrainState) -> Mapping[str, Any]:
        if parallel.process()[0]:
            return {}
        weights, number = parallel.fetch(variables(state)), int(state.step)
        scores = validate(weights, lambda _: request.give_way(number))
        seen[:] = [scores]
        writer.scalars(number, {name: scores[name] for name in ("AP", "AP50", "side") if name in scores})
        writer.images(number, {"chips": draw(weights, latest[0])})
        curves.draw(stage.folder)
        console.say(f"step {number}: {validation.line(scores)}")
        return scores

    return on_validate


def _on_divergence(config: Config, number: int, position: Position, info: dict[str, float]) -> str:
    return (
        f"its batch is that of seed {config.seed}, epoch {position.epoch}, number {position.batch}: "
        f"next(Batches(dataset, config, Position({position.epoch}, {position.batch}))) draws it"
    )


def _resume(checkpoints: ocp.CheckpointManager | None, state: TrainState) -> tuple[TrainState, Position]:
    """The newest checkpoint and its position; what was given, and the beginning, without one.

    checkpoints: None on every process but the first, which tells the others.
    """
    newest = checkpoints.latest_step() if checkpoints is not None else None
    if not parallel.from_first(np.int32(newest is not None)):
        return state, Position()
    arrays, position = parallel.fetch(state._asdict()), np.zeros(2, np.int32)  # of the right shapes
    if checkpoints is not None:
        saved = checkpoint.restore(checkpoints, state)
        arrays, position = parallel.fetch(saved.state._asdict()), np.array(saved.position, np.int32)
    arrays, position = parallel.from_first((arrays, position))
    return TrainState(**arrays | {"key": jax.random.wrap_key_data(arrays["key"])}), Position(*map(int, position))


def _drawing(config: Config, categories: Sequence[str]) -> Callable[[Variables, TrainBatch], np.ndarray]:
    """A function that draws what the detector says of the first chips of a batch beside what it was to say."""
    answer = jax.jit(detector_of(config.detector).detect)

    def draw(weights: Variables, batch: TrainBatch) -> np.ndarray:
        shown = panels.first(batch, PANELS)
        return panels.panels(shown, jax.device_get(answer(weights, shown.chips)), categories)

    return draw


def warn(console: Screen, lines: Sequence[str]) -> None:
    """Print warnings, a line each."""
    for line in lines:
        console.say(f"warning: {line}")


def _summary(entry: Mapping[str, float]) -> str:
    """A line of a log as a person reads it: the parts of the loss, chips per second, waiting."""
    parts = ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name not in PARTS)
    return f"{parts}, {entry['chips_per_second']:.1f} chips/s, {100 * entry['data_wait']:.0f}% waiting for data"
