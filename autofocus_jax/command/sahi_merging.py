"""SAHI's own merging of what was found on slices, where its package is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from autofocus_jax.structures import Detections

Merge = Callable[[Detections, tuple[int, int]], Detections]  # rows of all slices, (height, width) of the image


def mergers() -> dict[str, Merge]:
    """Return SAHI's mergings by name, none where it is not installed.

    The classes are called by name: below a confidence of 0.1 SAHI's function replaces the default by NMS silently.
    """
    if importlib.util.find_spec("sahi") is None:
        return {}
    from sahi.postprocess.combine import GreedyNMMPostprocess, NMSPostprocess

    default = GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=False)
    nms = NMSPostprocess(match_threshold=0.5, match_metric="IOU", class_agnostic=False)
    return {
        "SAHI's merging": lambda found, size: _merged(default, found, size),
        "SAHI's merging from 0.25": lambda found, size: _merged(default, _above(found, 0.25), size),
        "SAHI's NMS": lambda found, size: _merged(nms, found, size),
    }


def _above(found: Detections, score: float) -> Detections:
    return Detections(*(field[found.scores >= score] for field in found))


def _merged(postprocess: Callable, found: Detections, size: tuple[int, int]) -> Detections:
    from sahi.prediction import ObjectPrediction

    given = [
        ObjectPrediction(bbox=box, score=score, category_id=label, category_name=str(label), full_shape=list(size))
        for box, score, label in zip(*(field.tolist() for field in found))
    ]
    merged = sorted(postprocess(given) if given else [], key=lambda one: -one.score.value)
    return Detections(
        np.array([one.bbox.to_xyxy() for one in merged], np.float32).reshape(-1, 4),
        np.array([one.score.value for one in merged], np.float32),
        np.array([one.category.id for one in merged], np.int32),
    )
