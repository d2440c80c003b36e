"""The kinds of detectors, by the type of their settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from autofocus_jax.config import ConfigError, DetectorConfig, DetectorSettings
from autofocus_jax.detector.api import Detector
from autofocus_jax.detector.focus_network import FocusNetworkConfig, focus_network
from autofocus_jax.detector.one_stage import one_stage
from autofocus_jax.detector.one_stage_settings import OneStageConfig
from autofocus_jax.detector.two_stage import two_stage

DETECTORS: dict[type[DetectorSettings], Callable[[Any], Detector]] = {
    DetectorConfig: two_stage,
    OneStageConfig: one_stage,
    FocusNetworkConfig: focus_network,
}


@functools.cache
def detector_of(settings: DetectorSettings) -> Detector:
    """Return the detector of the settings; the same value for equal settings.

    Raises:
        ConfigError: no kind in DETECTORS has settings of this type.
    """
    if type(settings) not in DETECTORS:
        known = ", ".join(kind.__name__ for kind in DETECTORS)
        raise ConfigError(f"{type(settings).__name__} is of no detector; want one of {known}, or add yours to "
                          "detector.kinds.DETECTORS")  # fmt: skip
    return DETECTORS[type(settings)](settings)
