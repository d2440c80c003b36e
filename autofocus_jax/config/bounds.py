"""Bounds of single settings: values that no detector needs, that would fill the memory, or that would never end.

Settings may come with weights from elsewhere, so they are checked before anything is allocated.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

_SIDE, _CHANNELS = (1, 2**15), (1, 2**14)
_BOUNDS: dict[str, tuple[float, float]] = {  # pattern of a setting's path -> least and most
    r"scales\.\d+\.(min|max)_side|buckets\.\d+\.(height|width)": _SIDE,
    r"buckets\.\d+\.batch": (1, 2**16),
    r"detector\.backbone\.units\.\d+": (1, 256),
    r"detector\.(backbone\.channels\.\d+|(rpn|roi|head|focus)_channels)": _CHANNELS,
    r"detector\.backbone\.dilation": (1, 64),
    r"detector\.num_classes": (1, 2**17),
    r"detector\.proposals": (1, 2**13),
    r"detector\.proposals_before_nms": (1, 2**15),
    r"detector\.roi_size": (1, 64),
    r"detector\.(box|pixel)_deviations?\.\d+": (1e-6, 1e6),
    r"detector\.pixel_mean\.\d+": (-1e6, 1e6),
    r"detector\.anchors\.(sizes|ratios)\.\d+": (1e-3, 1e5),
    r"detector\.proposal_nms_iou|stacking\.(nms_iou|score_threshold)": (0, 1),
    r"stacking\.max_detections|window": (1, 2**20),
}
_MOST = {"scales": 64, "buckets": 2**12, "detector.anchors.sizes": 256, "detector.anchors.ratios": 256}  # entries
_PIXELS = 2**28  # of a batch of one bucket
_ENDLESS = re.compile(r"(.*\.)?(high|threshold)|focus_range\.[bc]")  # settings that may be infinite


def out_of_bounds(config: Any) -> str | None:
    """Return the fault of the first setting of a Config that is out of its bounds, or None.

    The text names the setting, its value and its bounds.
    """
    for path, entries in _MOST.items():
        count = len(_at(config, path))
        if count > entries:
            return f"{path} has {count} entries; want at most {entries}"
    for path, value in _numbers(config, ""):
        if math.isnan(value) or (math.isinf(value) and not _ENDLESS.fullmatch(path)):
            return f"{path} is {value}; want a finite number"
        for pattern, (least, most) in _BOUNDS.items():
            if not least <= value <= most and re.fullmatch(pattern, path):
                return f"{path} is {value}; want {least} to {most}"
    for number, bucket in enumerate(config.buckets):
        pixels = bucket.height * bucket.width * bucket.batch
        if pixels > _PIXELS:
            return f"buckets.{number} has batches of {pixels} px; want at most {_PIXELS}"
    return None


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value, name, ())  # not every detector has anchors
    return value


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield (path, number) of every number in nested dataclasses, NamedTuples and tuples."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield path, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{path}.{field.name}" if path else field.name)
    elif isinstance(value, tuple):
        names = getattr(value, "_fields", range(len(value)))
        for name, item in zip(names, value):
            yield from _numbers(item, f"{path}.{name}")
