"""Detector and Backbone: values made of functions, so that the rest of the program takes any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from autofocus_jax.config import DetectorSettings, TrainingConfig
from autofocus_jax.structures import Array, ChipBatch, DetectorOutput, TrainBatch

Variables = Any  # {"params": ..., "batch_stats": ...}, nested dicts of float32 arrays
Answer = tuple[Array, Array, Array]  # boxes, scores and valid of DetectorOutput
Loss = tuple[Array, tuple[dict[str, Array], Variables]]  # the total, and its parts and the new batch statistics


class Backbone(NamedTuple):
    """A network from images to features at stride 16. Each kind is one file and one line in `backbone.BACKBONES`.

    The module maps `(images [B, H, W, 3] float32, size [B, 2], train)` to `[B, H/16, W/16, C]`. Every convolution that
    looks past one cell must see zeros outside the true size. The answer must be zero there too.
    """

    module: Callable[..., Any]  # (config, dtype, frozen_stages, axis) -> the Flax module, see `backbone.backbone`
    frozen: tuple[str, ...]  # for each stage, first to last, the pattern of its modules' names; together all of them
    folds: Mapping[str, str] | None = None  # convolution -> the batch norm after it, in one module; None: not folded
    epsilon: float = 1e-5  # of the batch norms that are folded
    foreign: Callable[[str], str | None] | None = None  # of a PyTorch module -> ours, "" after the features, or None
    foreign_epsilon: float = 1e-5  # of the batch norms of that file's network


class Names(NamedTuple):
    """Facts of a detector's arrays that other parts of the program need."""

    settings: Mapping[str, str]  # each setting that trained weights depend on -> "backbone" or the head that does
    classes: tuple[str, ...]  # arrays whose shape depends on the number of classes, as "params/head/logits/bias"
    proposals: tuple[str, ...] = ()  # settings of TrainingConfig that the stage of region proposals does not have
    foreign: Mapping[str, str] = MappingProxyType({})  # layer of the authors' release -> "head/layer"
    pooled: tuple[str, ...] = ()  # "head/layer" of fully connected layers that see the bins of RoI pooling


class Detector(NamedTuple):
    """A kind of detector with its settings. `kinds.detector_of` chooses it by the type of the settings.

    `look` and `answer` are two programs, because only `look` depends on the exact shape of a bucket. Its result should
    have the same shapes for many buckets. All functions are pure and can be traced.
    """

    settings: DetectorSettings
    init: Callable[[Array], Variables]  # key -> random parameters, and batch statistics of mean 0 and variance 1
    look: Callable[[Variables, ChipBatch], tuple[Any, Array]]  # -> (seen, focus map [B, H/16, W/16])
    answer: Callable[[Variables, Any], Answer]  # seen -> boxes, scores, valid
    loss: Callable[[TrainingConfig, Variables, TrainBatch, Array, str | None], Loss]  # of a batch; see two_stage_loss
    prepare: Callable[[Variables], tuple[Detector, Variables]]  # for inference: fewer layers, the same answer
    frozen: Callable[[tuple[str, ...], int], bool]  # is the parameter of this path in one of the first n stages
    names: Names
    proposals: Detector | None = None  # of one class, for the negative chips; None: the detector itself

    def detect(self, variables: Variables, chips: ChipBatch) -> DetectorOutput:
        """Return detections and focus map of every chip. They depend neither on the bucket nor on other rows."""
        seen, focus = self.look(variables, chips)
        return DetectorOutput(*self.answer(variables, seen), focus)
