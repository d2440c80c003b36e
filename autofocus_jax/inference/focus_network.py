"""A focus network as a function that says where to look again, for detectors without a focus map."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from autofocus_jax.config import ConfigError
from autofocus_jax.config.stored import settings_from
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.focus_network import FocusNetworkConfig
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.focus import pyramid
from autofocus_jax.foreign.proposal import THRESHOLD
from autofocus_jax.structures import STRIDE, ChipBatch, Detections, Placement, Where
from autofocus_jax.weights import fit, safetensors
from autofocus_jax.weights.safetensors import WeightsError
from autofocus_jax.where.combine import either, rescaled
from autofocus_jax.where.weak import weak

_STEP, _LARGE = 64, 512  # px; pictures are padded to multiples of the step, or of twice the step where larger
_SURE = 0.5  # threshold of a network that nobody chose one for


class FocusNetwork(NamedTuple):
    """A focus network with its settings."""

    settings: FocusNetworkConfig
    variables: Variables
    threshold: float  # probability from which it is looked again


def read_network(weights: str | os.PathLike) -> FocusNetwork:
    """Read a focus network from a .safetensors file, or by the name of a shipped one.

    Raises:
        WeightsError: the file holds no focus network.
    """
    path = safetensors.find(weights)
    variables, metadata = safetensors.load(path)
    stored = dict(metadata["config"].get("detector", {}))
    if stored.pop("kind", None) != FocusNetworkConfig.__name__:
        raise WeightsError(f"weights {weights} are of a detector, not of a focus network; give one that was "
                           "trained with FocusNetworkConfig")  # fmt: skip
    settings = settings_from(FocusNetworkConfig, stored, f"weights {weights}")
    fit.strict(variables, jax.eval_shape(detector_of(settings).init, jax.random.key(0)))
    threshold = metadata.get("threshold", _SURE)
    if not isinstance(threshold, float | int) or not 0 < threshold < 1:
        raise WeightsError(f"weights {weights} have the threshold {threshold!r}; want one between 0 and 1")
    return FocusNetwork(settings, variables, float(threshold))


def network(weights: str | os.PathLike | FocusNetwork) -> Where:
    """Look where a focus network says so.

    A cell's value is its probability, rescaled so that the network's own threshold is the one that plans have for weak
    detections (foreign.proposal.THRESHOLD). So both can be joined by `either`, and one threshold serves both.

    Args:
        weights: a .safetensors file of a focus network, or what `read_network` returned.
    """
    known = weights if isinstance(weights, FocusNetwork) else read_network(weights)
    return rescaled(probabilities(known), known.threshold, THRESHOLD)


def probabilities(known: FocusNetwork) -> Where:
    """Make focus maps of a network's own probabilities."""
    prepared, variables = detector_of(known.settings).prepare(known.variables)
    variables = jax.device_put(variables)
    run = _compiled(prepared.settings)

    def where(
        crops: Sequence[np.ndarray], placements: Sequence[Placement], found: Sequence[Detections] | None
    ) -> list[np.ndarray]:
        return [_spread(run(variables, _batch(picture)), picture.shape, crop.shape) for crop, picture in
                ((crop, shown(crop, known.settings.share)) for crop in crops)]  # fmt: skip

    return where


@functools.cache
def _compiled(settings: FocusNetworkConfig) -> Callable[[Variables, ChipBatch], Any]:
    """The jitted map of a network, shared by all networks of the same settings: each shape compiles once."""
    look = detector_of(settings).look
    return jax.jit(lambda variables, chips: look(variables, chips)[1])


def shown(crop: np.ndarray, share: float) -> np.ndarray:
    """Return a crop [h, w, 3] as a network looks at it: resized by its share."""
    height, width = crop.shape[:2]
    return pyramid.crop(crop, np.array([0, 0, width, height]), share)[0]


def _batch(picture: np.ndarray) -> ChipBatch:
    """A picture as a batch of one chip, whose shape is one of few."""
    height, width = picture.shape[:2]
    step = _STEP if max(height, width) <= _LARGE else 2 * _STEP
    pixels = np.zeros((1, -(-height // step) * step, -(-width // step) * step, 3), np.uint8)
    pixels[0, :height, :width] = picture
    return ChipBatch(pixels, np.array([[height, width]], np.int32), np.ones(1, bool))


def _spread(focus: Any, picture: tuple[int, ...], crop: tuple[int, ...]) -> np.ndarray:
    """The focus map of a picture as one of its crop: each cell takes that which holds its centre."""
    focus = np.asarray(focus)[0]
    rows, columns = (
        np.minimum(((np.arange(-(-side // STRIDE)) + 0.5) * small / side).astype(int), -(-small // STRIDE) - 1)
        for side, small in zip(crop[:2], picture[:2])
    )
    return focus[np.ix_(rows, columns)]


def look_of(focus: str, weights: str | os.PathLike | None = None, small: float = 64.0) -> Where | None:
    """Return the function that a word names: weak, network, either (both of them), or none for None.

    Args:
        focus: the word.
        weights: of the network.
        small: px of the level below which a weak detection counts.

    Raises:
        ConfigError: another word, or a network without weights.
    """
    made: dict[str, Callable[[], Where | None]] = {
        "weak": partial(weak, small),
        "network": lambda: network(_given(focus, weights)),
        "either": lambda: either(weak(small), network(_given(focus, weights))),
        "none": lambda: None,
    }
    if focus not in made:
        raise ConfigError(f"focus {focus!r} is not known; want one of {', '.join(made)}")
    return made[focus]()


def _given(focus: str, weights: str | os.PathLike | None) -> str | os.PathLike:
    if weights is None:
        raise ConfigError(f"focus {focus!r} wants the weights of a focus network; give its .safetensors "
                          "file")  # fmt: skip
    return weights
