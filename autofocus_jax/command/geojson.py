"""Detections in georeferenced images as GeoJSON, in the CRS of each image, for QGIS and other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autofocus_jax.command.inputs import Item
from autofocus_jax.command.writers import Entry
from autofocus_jax.config import ConfigError
from autofocus_jax.data.raster import Place, place_of
from autofocus_jax.files import write_text
from autofocus_jax.structures import ImageError


class GeoJsonWriter:
    """A .geojson file for each image, with a polygon for each detection: its category, label, score and box in px."""

    wants_image = False

    def __init__(self, folder: Path):
        self._folder = folder

    def add(self, entry: Entry) -> None:
        result, place = entry.result, place_of(str(entry.result.name))
        rows = zip(result.boxes.tolist(), result.scores.tolist(), result.labels.tolist())
        features = [
            {
                "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners(box, place)]},
                "properties": {
                    "image": entry.file_name, "category": result.categories[label], "label": label,
                    "score": round(score, 4), "box": [round(side, 2) for side in box],
                },
            }
            for box, score, label in rows
        ]  # fmt: skip
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{place.epsg}"}}
        content: dict[str, Any] = {"type": "FeatureCollection", "name": entry.name, "crs": crs, "features": features}
        write_text(self._folder / f"{entry.name}.geojson", json.dumps(content, allow_nan=False), sync=False)

    def close(self) -> None:
        pass


def corners(box: Sequence[float], place: Place) -> list[list[float]]:
    """Return the closed ring of a box (xyxy, image px) in the coordinates of an image's CRS, counter-clockwise."""
    a, b, c, d, e, f = place.affine
    x1, y1, x2, y2 = box
    ring = [(x1, y1), (x1, y2), (x2, y2), (x2, y1), (x1, y1)]
    if a * e - b * d > 0:  # y of the CRS goes down
        ring.reverse()
    return [[a * x + b * y + c, d * x + e * y + f] for x, y in ring]


def check_places(items: Sequence[Item]) -> None:
    """Raise ConfigError, which names the file, for an item without coordinates: before the first image is looked at."""
    for item in items:
        try:
            if item.video:
                raise ImageError(f"video {item.file_name} has no coordinates")
            place_of(item.path)
        except ImageError as error:
            raise ConfigError(f"--write geojson: {error}; write coco for images without coordinates") from None
