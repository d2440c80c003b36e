"""The detector of a config, ready to be measured: a trained one, or a foreign one."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from autofocus_jax.command.foreign_config import SettledConfig
from autofocus_jax.command.options.detector import load_foreign
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.focus.cascade import AnyDetect
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.ledger import weights_digest
from autofocus_jax.structures import Dataset, GroundTruth
from autofocus_jax.weights import safetensors
from autofocus_jax.where.truth import truth


class Trained(NamedTuple):
    """A detector ready to run, and what tells it from others."""

    detect: AnyDetect
    fingerprint: str  # ledger.weights_digest, or model_digest
    categories: tuple[str, ...] | None = None  # names that the weights were trained on, where they say so
    # The same, looking where these images' boxes are.
    perfect: Callable[[Dataset, Sequence[int]], AnyDetect] | None = None


def load_trained(
    config: Config | SettledConfig, weights: str | None = None, devices: Sequence[Any] | None = None
) -> Trained:
    """Return the detector of a config; compiles nothing yet.

    Args:
        config: the settings.
        weights: a .safetensors file, a training's workdir or a name; by default those shipped for the config.
        devices: batches are split over these; by default the first one alone.

    Raises:
        ConfigError: there are no weights, or weights for a detector that is not ours.
        AutoFocusError: weights that cannot be read or do not fit.
    """
    if isinstance(config, SettledConfig):
        if weights is not None:
            raise ConfigError("--weights are of our own detector; leave them out, or give --detector alone")
        options = dataclasses.replace(config.detector.options, detector=config.model, focus=config.detector.focus,
                                      focus_weights=config.focus_weights)  # fmt: skip
        detect = load_foreign(options)
        return Trained(detect, model_digest(config.model, config.focus_weights), perfect=partial(_perfect, detect))
    # Here, so that experiments without a detector go without JAX.
    from autofocus_jax.inference.compiled import compile_detector
    from autofocus_jax.inference.stored import metadata
    from autofocus_jax.weights.variables import load_variables

    path = safetensors.of_config(config, weights)
    variables, names = load_variables(path, config), metadata(path)["categories"]
    known = tuple(map(str, names)) if isinstance(names, list) else None
    return Trained(compile_detector(config, variables, devices), weights_digest(variables), known)


def model_digest(path: str, focus: str | None = None) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a model's files and of the weights of a focus network."""
    sums = hashlib.sha256()
    for file in (*model_files(path), *(() if focus is None else (safetensors.find(focus),))):
        with file.open("rb") as content:
            sums.update(hashlib.file_digest(content, "sha256").digest())
    return sums.hexdigest()[:16]


def model_files(path: str) -> list[Path]:
    """Return the files of a model: its own, and those beside it that hold its weights (MODEL.onnx.data)."""
    model = Path(path)
    return [model, *sorted(model.parent.glob(f"{glob.escape(model.name)}[._]data"))]


def _perfect(detect: ForeignDetect, dataset: Dataset, indices: Sequence[int]) -> ForeignDetect:
    boxes: dict[Hashable, GroundTruth] = {index: dataset.ground_truth(index) for index in indices}
    return ForeignDetect(detect.detector, truth(boxes), detect.canvases)
