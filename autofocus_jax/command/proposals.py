"""The stage before the training of the detector: proposals for negative chips (section 3.2 of SNIPER).

The region proposals are trained alone, briefly and on positive chips. Then they run over all training images at all
scales. WORKDIR/proposals holds this training's checkpoints and log, and finished pieces of the second half, so that an
interrupted stage continues. WORKDIR/proposals.npz is the result (training/proposals.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from autofocus_jax import parallel
from autofocus_jax.command import stage, stopping
from autofocus_jax.command.console import Screen
from autofocus_jax.command.workdir import PROPOSALS, began, workdir_ledger
from autofocus_jax.config import Config, StackingConfig, TrainingConfig
from autofocus_jax.config.load import detection_settings, to_dict
from autofocus_jax.data.findings import Findings
from autofocus_jax.detector.api import Detector, Variables
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference.compiled import CompiledDetector
from autofocus_jax.ledger import Ledger, data_identity, digest, weights_digest
from autofocus_jax.structures import AutoFocusError, Dataset
from autofocus_jax.training import proposals
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step, variables
from autofocus_jax.weights import checkpoint
from autofocus_jax.weights.variables import load_variables, notes

NMS_IOU = 0.7  # of proposals of all scales together; that of each scale is the detector's own
# Settings of training that this stage does not have, beside those that the detector names; they keep their defaults.
OTHERS = ("negative_chips", "negative_proposals", "ema", "validate_every")


def run_stage(
    config: Config,
    dataset: Dataset,
    workdir: Path,
    console: Screen,
    put: Callable[[Variables], Variables] = lambda drawn: drawn,
    accept_changes: bool = False,
    problems: Findings | None = None,
) -> Path:
    """Return WORKDIR/proposals.npz. The file is made unless it exists; an interrupted stage continues.

    Args:
        config: the settings.
        dataset: the training images.
        workdir: folder of the training.
        console: prints progress.
        put: gives variables to start from, as in training.step.initial_state.
        accept_changes: continue although the stage was begun with other settings or data.
        problems: collects images that cannot be read.

    Raises:
        LedgerError: the stage was begun with other settings or data.
        ProposalsError: the existing file is of other images.
    """
    path, folder, config = workdir / "proposals.npz", workdir / PROPOSALS, stage_config(config)
    with contextlib.ExitStack() as held:
        if parallel.process()[0] == 0:
            initial = notes(workdir).get("initial")
            ledger = workdir_ledger(config, folder, data_identity(dataset, boxes=True), initial)
            held.enter_context(ledger.claim(anew=not began(folder), accept=accept_changes))
        if not (path.exists() and _fits(path, config, dataset, folder, accept_changes)):
            _make(path, config, dataset, folder, console, put, Findings() if problems is None else problems)
    return path


def _fits(path: Path, config: Config, dataset: Dataset, folder: Path, accept_changes: bool) -> bool:
    """Return True if a file of proposals is of the images, and of the weights that the stage in the folder ended with.

    Raises ProposalsError for a file of other images, unless changes are accepted.
    """
    try:
        proposals.read(path, dataset)
    except proposals.ProposalsError:
        if accept_changes:
            return False
        raise
    trained = checkpoint.steps(folder)
    if not trained:  # it was made elsewhere
        return True
    ended = trained[-1] >= config.training.steps
    return ended and proposals.origin_of(path) == _origin(config, load_variables(folder, config))


def _origin(config: Config, weights: Variables) -> dict[str, str]:
    """Return everything that proposals depend on beside the images."""
    sides = [[scale.min_side, scale.max_side] for scale in config.scales]
    training = config.training
    settings = [sides, to_dict(training.ranges), training.proposals_kept, to_dict(config.detector), config.shrink]
    return {"weights": weights_digest(weights), "settings": digest(settings)}


def _make(
    path: Path,
    config: Config,
    dataset: Dataset,
    folder: Path,
    console: Screen,
    put: Callable[[Variables], Variables],
    problems: Findings,
) -> None:
    """Train the rest of the stage and write the proposals."""
    over, transform = parallel.mesh(), optimizer(config)
    step = make_step(config, transform, over, _proposer(config))
    training = stage.Stage("region proposals", config, dataset, folder, step, over, problems)
    state, _ = stage.run(training, initial_state(config, transform, put), console)
    weights = parallel.fetch(variables(state))
    with stopping.requests(parallel.asked_to_stop if parallel.process()[1] > 1 else None) as request:
        give_way = lambda: request.give_way(config.training.steps)  # noqa: E731
        boxes = propose_all(config, dataset, weights, folder / "pieces", console, give_way)
    if parallel.process()[0] == 0:
        proposals.write(path, boxes, dataset, _origin(config, weights))
        total = sum(len(of_image) for of_image in boxes)
        console.say(f"{total} proposals of {len(boxes)} images in {path}")
    parallel.wait_for_all("proposals.npz")


def stage_config(config: Config) -> Config:
    """Return the config of the stage: proposals_steps steps, without the settings of the detector's own training."""
    others = {*OTHERS, *detector_of(config.detector).names.proposals}
    fields = dataclasses.fields(TrainingConfig)
    defaults: dict[str, Any] = {field.name: field.default for field in fields if field.name in others}
    training = dataclasses.replace(config.training, steps=config.training.proposals_steps, **defaults)
    return dataclasses.replace(config, training=training)


def _proposer(config: Config) -> Detector:
    """Return the detector that this stage trains and runs: its proposals, or the whole detector without such a part."""
    detector = detector_of(config.detector)
    return detector.proposals or detector


def propose_all(
    config: Config,
    dataset: Dataset,
    weights: Variables,
    folder: Path,
    console: Screen,
    give_way: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """Return the best training.proposals_kept proposals [p, 4] (float32, image px) of every image, by probability.

    Every scale sees the whole image and answers for its training range. A proposal that overlaps a better one by an IoU
    above 0.7 is dropped. Several processes share the work through `folder`. An image that cannot be read has no
    proposals, and the console says so.

    Args:
        config: the settings.
        dataset: the images.
        weights: variables of the region proposals.
        folder: of finished pieces. Pieces of other weights, images or settings are done again.
        console: prints progress.
        give_way: called after every image. Its exceptions end the work; finished pieces stay.

    Raises:
        AutoFocusError: no image can be read.
    """
    devices = jax.local_devices()
    ranges = zip(config.scales, config.training.ranges, strict=True)
    scales = tuple(dataclasses.replace(scale, valid=valid) for scale, valid in ranges)
    stacking = StackingConfig(0.0, score_threshold=0.0, max_detections=config.training.proposals_kept, nms_iou=NMS_IOU)
    buckets = parallel.spread(config.buckets, len(devices))
    config = dataclasses.replace(config, scales=scales, stacking=stacking, buckets=buckets)
    plan = Plan(scales, buckets, stacking, (whole_level,) * (len(scales) - 1), config.shrink, config.window)
    detect = CompiledDetector(config, weights, devices, _proposer(config))
    streamed = partial(engine.stream, detect=detect, plan=plan)
    process, processes = parallel.process()
    depends_on = {"weights": weights_digest(weights), "data": data_identity(dataset), **detection_settings(config)}
    kept = Ledger(folder, depends_on, "run.json", makes=(f"{'[0-9]' * 6}.npz",), fix="use another --workdir")
    with contextlib.ExitStack() as held, console.progress() as progress:
        if process == 0:
            held.enter_context(kept.claim(anew=bool(kept.changes())))
        parallel.wait_for_all("pieces")
        task = progress.add_task("proposals", total=len(dataset))

        def tick(count: int) -> None:
            progress.advance(task, count)
            give_way()

        if processes > 1:
            engine.run(dataset, range(len(dataset)), streamed, tick, folder, (process, processes))
            parallel.wait_for_all("proposals")
            result = engine.gather(len(dataset), folder)
        else:
            result = engine.run(dataset, range(len(dataset)), streamed, tick, folder)
    if result.skipped:
        first = result.skipped[0].reason
        if not result.indices:
            raise AutoFocusError(f"none of {len(dataset)} training images could be read; the first: {first}")
        console.say(f"{len(result.skipped)} images could not be read and have no proposals; the first: {first}")
    boxes = [np.zeros((0, 4), np.float32)] * len(dataset)
    for index, found in zip(result.indices, result.detections, strict=True):
        boxes[index] = found.boxes
    return boxes
