"""The stage before the training of the detector: proposals for negative chips (section 3.2 of SNIPER).

The region proposals are trained alone, for a short time and on positive chips; then they run over all training images
at all scales. WORKDIR/proposals has this training's checkpoints and log and, in pieces, what is done of the second
half, so that an interrupted stage goes on; WORKDIR/proposals.npz is its result (training/proposals.py).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from autofocus_jax import files, parallel
from autofocus_jax.command import stage
from autofocus_jax.command.workdir import changes
from autofocus_jax.config import Config, ConfigError, StackingConfig, TrainingConfig
from autofocus_jax.config_file import to_dict
from autofocus_jax.data.findings import Findings
from autofocus_jax.detector.losses import proposal_stage_loss
from autofocus_jax.detector.model import Variables
from autofocus_jax.detector.region_proposals import region_proposals
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference.compiled import CompiledDetector
from autofocus_jax.structures import AutoFocusError, Dataset
from autofocus_jax.training import proposals, stopping
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step, variables

NMS_IOU = 0.7  # of proposals of all scales together; that of each scale is the detector's own
# Settings of the detector's training that this stage does not have: here they keep their defaults.
OTHERS = ("negative_chips", "negative_proposals", "ema", "hard_rois", "roi_batch", "roi_foreground",
          "roi_foreground_iou", "focus_weight", "validate_every")  # fmt: skip


def run_stage(
    config: Config,
    dataset: Dataset,
    workdir: Path,
    console: Console,
    put: Callable[[Variables], Variables] = lambda drawn: drawn,
    accept_changes: bool = False,
    problems: Findings | None = None,
) -> Path:
    """Returns WORKDIR/proposals.npz, made now unless it is there already; goes on where an earlier run was stopped.

    put: gives variables to start from, as in training.step.initial_state. accept_changes: go on although the stage was
    begun with other settings. problems: collects images that cannot be read. Raises ConfigError for such settings
    otherwise, ProposalsError when a file that is there is of other images, and what a training raises.
    """
    path, folder = workdir / "proposals.npz", files.make_folder(workdir / "proposals")
    stage_settings = stage_config(config)
    if parallel.process()[0] == 0:
        _keep_settings(stage_settings, folder, accept_changes)
    if path.exists():
        proposals.read(path, len(dataset))
        return path
    over, transform = parallel.mesh(), optimizer(stage_settings.training)
    step = make_step(stage_settings, transform, over, proposal_stage_loss)
    found = Findings() if problems is None else problems
    training = stage.Stage("region proposals", stage_settings, dataset, folder, step, over, found)
    state, _ = stage.run(training, initial_state(stage_settings, transform, put), console)
    weights = parallel.fetch(variables(state))
    pieces = files.make_folder(folder / "pieces")
    with stopping.requests(parallel.process()[1]) as request:
        give_way = lambda: request.give_way(stage_settings.training.steps)  # noqa: E731
        boxes = propose_all(stage_settings, dataset, weights, pieces, console, give_way)
    if parallel.process()[0] == 0:
        proposals.write(path, boxes)
        total = sum(len(of_image) for of_image in boxes)
        console.print(f"{total} proposals of {len(boxes)} images in {path}", soft_wrap=True)
    parallel.wait_for_all("proposals.npz")
    return path


def stage_config(config: Config) -> Config:
    """The config of the stage: proposals_steps steps, and nothing of what only the detector's training has."""
    defaults = {field.name: field.default for field in dataclasses.fields(TrainingConfig) if field.name in OTHERS}
    training = dataclasses.replace(config.training, steps=config.training.proposals_steps, **defaults)
    return dataclasses.replace(config, training=training)


def propose_all(
    config: Config,
    dataset: Dataset,
    weights: Variables,
    folder: Path,
    console: Console,
    give_way: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """The best training.proposals_kept proposals [p, 4] (float32, image px) of every image, by probability.

    Every scale sees the whole image and answers for its training range; what overlaps a better proposal by an IoU above
    0.7 goes. folder: existing, for finished pieces; several processes share the work through it. An image that cannot
    be read has no proposals, and the console says so; AutoFocusError when none can. give_way: called after every image;
    what it raises ends the work, and finished pieces stay.
    """
    devices = jax.local_devices()
    ranges = zip(config.scales, config.training.ranges, strict=True)
    scales = tuple(dataclasses.replace(scale, valid=valid) for scale, valid in ranges)
    stacking = StackingConfig(0.0, score_threshold=0.0, max_detections=config.training.proposals_kept, nms_iou=NMS_IOU)
    buckets = parallel.spread(config.buckets, len(devices))
    config = dataclasses.replace(config, scales=scales, stacking=stacking, buckets=buckets)
    plan = Plan(scales, buckets, stacking, (whole_level,) * (len(scales) - 1), config.shrink, config.window)
    detect = CompiledDetector(config, weights, devices, region_proposals)
    streamed = partial(engine.stream, detect=detect, plan=plan)
    process, processes = parallel.process()
    with stage.progress_bar(console) as progress:
        task = progress.add_task("proposals", total=len(dataset), text="")

        def tick(count: int) -> None:
            progress.advance(task, count)
            give_way()

        if processes > 1:
            engine.run(dataset, range(len(dataset)), streamed, tick, folder, (process, processes))
            parallel.wait_for_all("proposals")
            tick = None
        result = engine.run(dataset, range(len(dataset)), streamed, tick, folder)
    if result.skipped:
        first = result.skipped[0].reason
        if not result.indices:
            raise AutoFocusError(f"none of {len(dataset)} training images could be read; the first: {first}")
        console.print(f"{len(result.skipped)} images could not be read and have no proposals; the first: {first}",
                      soft_wrap=True, markup=False)  # fmt: skip
    boxes = [np.zeros((0, 4), np.float32)] * len(dataset)
    for index, found in zip(result.indices, result.detections, strict=True):
        boxes[index] = found.boxes
    return boxes


def _keep_settings(config: Config, folder: Path, accept_changes: bool) -> None:
    """Writes config.json into the stage's folder; ConfigError when the stage was begun there with other settings."""
    changed = changes(config, folder)
    if changed and not accept_changes:
        raise ConfigError(
            f"the proposals stage in {folder} was run with another config ({'; '.join(changed)}); use another "
            "--workdir, or remove that folder and proposals.npz beside it to do the stage again"
        )
    if changed:
        shutil.rmtree(folder / "pieces", ignore_errors=True)  # they may be of fewer steps
    files.write_json(folder / "config.json", to_dict(config))
