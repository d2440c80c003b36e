"""Settings that must match the weights although they do not change array shapes (anchors, pixel mean, …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofocus_jax.config import DetectorSettings
from autofocus_jax.config.load import differences, to_dict
from autofocus_jax.detector.kinds import detector_of


def changed_meaning(made_with: Mapping[str, Any], detector: DetectorSettings) -> list[str]:
    """Return the settings that weights depend on and that differ from the settings they were made with.

    Args:
        made_with: settings of a detector as JSON data. Missing settings have their defaults. Empty settings compare
            equal.
        detector: the settings to compare with.

    Returns:
        Lines "key: x -> y".
    """
    if not made_with:
        return []
    before, now = _filled(dict(made_with), to_dict(type(detector)())), to_dict(detector)
    names = detector_of(detector).names.settings
    return differences(*({key: tree[key] for key in names} for tree in (before, now)))


def _filled(settings: dict, defaults: dict) -> dict:
    """Settings with what they lack taken from the defaults, at every depth."""
    both = {key: (value, settings.get(key, value)) for key, value in defaults.items()}
    return {key: _filled(given, value) if isinstance(value, dict) and isinstance(given, dict) else given
            for key, (value, given) in both.items()}  # fmt: skip
