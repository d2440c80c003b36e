"""The job of `autofocus batch --detector`: what the workers get, and how each of them makes a Model of it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from autofocus_jax.batch.images import images
from autofocus_jax.batch.job import Job
from autofocus_jax.batch.plan import Plan as Planned
from autofocus_jax.batch.storage import Folder
from autofocus_jax.command.detector_plan import described, detector_plan
from autofocus_jax.command.options.detector import DetectorOptions, load_foreign
from autofocus_jax.command.photographs import spread
from autofocus_jax.command.trained import model_digest, model_files
from autofocus_jax.config.load import to_dict
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference.model import Model
from autofocus_jax.ledger import digest
from autofocus_jax.structures import ImageError
from autofocus_jax.weights import safetensors

_SIZED = 32  # images, spread over the input, that a plan is proposed for
_NAMES, _FOCUS = "names of the classes", "focus.safetensors"

Files = Mapping[str, np.ndarray]  # name -> bytes, uint8


def foreign_job(
    options: DetectorOptions,
    sides: Sequence[tuple[int, int]],
    thresholds: Sequence[float],
    score: float,
    anywhere: bool,
) -> Callable[[Planned, str, Callable[[str], None]], tuple[Job, Files]]:
    """Load a detector and return what makes its job of a planned input, a resolved output and a hearer of messages.

    Args:
        options: the detector, where it looks, and a plan.
        sides: (shorter, longer) side of each scale, px, in place of those of the plan.
        thresholds: of the focus maps, in place of those of the plan.
        score: detections below are left out.
        anywhere: whether paths in Parquet files may lead out of the input's folder.

    Returns: a function to the job and its payload, the model's files.
    """
    detect = load_foreign(dataclasses.replace(options, providers=("cpu",)))  # the workers have what it is to run on
    files = {path.name: np.fromfile(path, np.uint8) for path in model_files(options.detector)}
    if options.names is not None:
        files[_NAMES] = np.fromfile(Path(options.names).expanduser(), np.uint8)
    if options.focus_weights is not None:
        files[_FOCUS] = np.fromfile(safetensors.find(options.focus_weights), np.uint8)
    sent = dataclasses.replace(options, detector=Path(options.detector).name, plan=None)

    def make(planned: Planned, output: str, say: Callable[[str], None]) -> tuple[Job, Files]:
        sizes = _sizes(planned, anywhere)
        plan = detector_plan(options, detect.detector, sizes, sides, thresholds)
        for line in described(plan, sizes):
            say(line)
        # Neither the threads of a run nor what it runs on decides what is found; `detector` is in the model's hash.
        facts = to_dict(dataclasses.replace(sent, detector=None, names=None, threads=0, providers=()))
        del facts["focus_weights"]  # their content is in the model's hash, too
        settings = digest([facts, to_dict(plan.scales), to_dict(plan.stacking), score])
        load = partial(load_sent, sent, plan)
        model = model_digest(options.detector, options.focus_weights)
        return Job(planned.folder, output, model, settings, load, detect.categories, score, anywhere), files

    return make


def load_sent(options: DetectorOptions, plan: Plan, files: Files, cores: int) -> Model:
    """Return the Model of a detector whose files were sent; a run of it uses `cores` threads unless options say."""
    with tempfile.TemporaryDirectory(prefix="autofocus-model-") as folder:
        for name, content in files.items():
            content.tofile(Path(folder, name))
        detect = load_foreign(dataclasses.replace(
            options, detector=str(Path(folder, options.detector)), threads=options.threads or cores,
            names=str(Path(folder, _NAMES)) if _NAMES in files else None,
            focus_weights=str(Path(folder, _FOCUS)) if _FOCUS in files else None,
        ))  # fmt: skip
    return Model(detect, plan, detect.categories)


def _sizes(planned: Planned, anywhere: bool) -> list[tuple[int, int]]:
    """Return (height, width) of images spread over an input, the same ones each time.

    Unreadable images are left out. Only the first images of a table or a shard are looked at.
    """
    folder, sizes = Folder(planned.folder), []
    chosen = [planned.pieces[number] for number in spread(len(planned.pieces), _SIZED)]
    each = -(-_SIZED // len(chosen))
    for piece in chosen:
        if piece.kind == "images":
            piece = piece._replace(files=tuple(piece.files[number] for number in spread(len(piece.files), each)))
        for _, reader in islice(images(folder, piece, anywhere), each):
            try:
                sizes.append(reader().shape[:2])
            except ImageError:
                continue
    return sizes
