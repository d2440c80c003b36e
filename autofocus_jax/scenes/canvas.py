"""The picture while it is drawn, with a record of which object each pixel shows."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from autofocus_jax.scenes.sprites import Sprite
from autofocus_jax.structures import GroundTruth

MIN_VISIBLE = 0.6  # share of an object that whatever is drawn over it must leave
MIN_INSIDE = 0.75  # share of an object that must lie inside the image
SOLID = 0.4  # coverage from which a pixel shows an object; no multiple of 1/64, so that no rounding decides it


class Canvas(NamedTuple):
    """A scene while it is drawn. Objects are numbered from 1."""

    image: np.ndarray  # [h, w, 3] uint8
    owner: np.ndarray  # [h, w] uint16: number of the object seen in a pixel, 0 for none
    whole: list[int]  # pixels of each object, were it seen whole; 0 where drawing over it is forbidden
    seen: list[int]  # pixels of it that are seen
    boxes: list[np.ndarray]  # extents of whole objects, xyxy
    labels: list[int]  # category, -1 for what is not annotated


def blank_canvas(image: np.ndarray) -> Canvas:
    """A canvas without objects on a background [h, w, 3] uint8, which is drawn into."""
    return Canvas(image, np.zeros(image.shape[:2], np.uint16), [0], [0], [np.zeros(4)], [-1])


def put(generator: np.random.Generator, canvas: Canvas, sprite: Sprite, label: int, light: np.ndarray) -> bool:
    """Blend in a sprite and its shadow. Return False, and draw nothing, if too little would stay visible."""
    height, width = canvas.owner.shape
    rows, columns = sprite.alpha.shape
    top, left = max(-sprite.y, 0), max(-sprite.x, 0)
    bottom, right = min(rows, height - sprite.y), min(columns, width - sprite.x)
    if top >= bottom or left >= right:
        return False
    place = slice(sprite.y + top, sprite.y + bottom), slice(sprite.x + left, sprite.x + right)
    part = slice(top, bottom), slice(left, right)
    alpha = sprite.alpha[part]
    solid = alpha > SOLID
    whole = int(np.count_nonzero(sprite.alpha > SOLID))
    if np.count_nonzero(solid) < MIN_INSIDE * whole or not take(canvas, place, solid, len(canvas.whole)):
        return False
    _shadow(generator, canvas.image, sprite, light)
    crop = canvas.image[place].astype(np.float32)
    crop += alpha[..., None] * (sprite.colour[part] - crop)
    canvas.image[place] = crop + np.float32(0.5)
    canvas.whole.append(whole)
    canvas.seen.append(int(np.count_nonzero(solid)))
    canvas.boxes.append(sprite.box)
    canvas.labels.append(label)
    return True


def take(canvas: Canvas, place: tuple[slice, slice], solid: np.ndarray, number: int) -> bool:
    """Give the solid pixels [h, w] bool of a crop to object `number`.

    Returns False, and does nothing, if that would hide too much of another object.
    """
    owner = canvas.owner[place]
    lost = np.bincount(owner[solid], minlength=len(canvas.whole))
    touched = (np.flatnonzero(lost[1:]) + 1).tolist()
    for other in touched:
        whole = canvas.whole[other]
        if not whole or canvas.seen[other] - lost[other] < MIN_VISIBLE * whole:
            return False
    for other in touched:
        canvas.seen[other] -= int(lost[other])
    owner[solid] = number
    return True


def _shadow(generator: np.random.Generator, image: np.ndarray, sprite: Sprite, light: np.ndarray) -> None:
    """Darken the image beside a sprite, away from the light, in place."""
    strength, reach = generator.uniform(0.15, 0.55), generator.uniform(0.04, 0.14)
    rows, columns = sprite.alpha.shape
    pad = max(2, int(0.1 * max(rows, columns)))
    shadow = cv2.copyMakeBorder(sprite.alpha, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    shadow = cv2.blur(shadow, (pad | 1, pad | 1))
    move = np.rint(-light * reach * max(rows, columns)).astype(int)
    x, y = sprite.x - pad + int(move[0]), sprite.y - pad + int(move[1])
    top, left = max(-y, 0), max(-x, 0)
    bottom, right = min(shadow.shape[0], image.shape[0] - y), min(shadow.shape[1], image.shape[1] - x)
    if top < bottom and left < right:
        crop = image[y + top : y + bottom, x + left : x + right]
        dark = 1 - np.float32(strength) * shadow[top:bottom, left:right]
        crop[:] = crop * dark[..., None] + np.float32(0.5)


def ground_truth(canvas: Canvas, crowd: tuple[np.ndarray, int] | None) -> GroundTruth:
    """Boxes of what is seen: sub-pixel extents where an object is whole, pixels where something hides it."""
    height, width = canvas.owner.shape
    boxes, labels, ignore = [], [], []
    for number, label in enumerate(canvas.labels):
        if label < 0:
            continue
        extent = np.clip(canvas.boxes[number], 0, (width, height, width, height))
        if canvas.seen[number] < canvas.whole[number]:
            x1, y1 = np.floor(extent[:2]).astype(int)
            x2, y2 = np.ceil(extent[2:]).astype(int)
            mask = canvas.owner[y1:y2, x1:x2] == number
            columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
            visible = np.array([x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1], np.float64)
            extent = np.where(np.abs(visible - extent) > 1.5, visible, extent)
        boxes.append(extent)
        labels.append(label)
        ignore.append(False)
    if crowd is not None:
        boxes.append(np.clip(crowd[0], 0, (width, height, width, height)))
        labels.append(crowd[1])
        ignore.append(True)
    return GroundTruth(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32), np.array(ignore, bool))
