"""The plot of a report as shapes of an SVG: scores against pixels, with a name beside each point that has room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from autofocus_jax.report.values import Plot, Point

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 620, 16, 352  # of the axes
_LETTER, _LINE = 7.2, 13  # px of a letter and of a line of text
_SHAPES = ("circle", "square", "diamond", "triangle", "cross", "down")
_STEPS = (1, 2, 5, 10, 20)  # points of a score between ticks


class Drawn(NamedTuple):
    """A point on the picture."""

    name: str
    said: str  # all of it in words
    x: float
    y: float
    style: int  # number of its kind, for the color
    shape: str  # path of its mark around (0, 0)
    text: tuple[float, float, str] | None  # (x, y, anchor) of its name; None without room


class Tick(NamedTuple):
    """A line of the grid."""

    at: float
    text: str


class Drawing(NamedTuple):
    """The plot, in px of the picture."""

    label: str
    points: list[Drawn]
    across: list[Tick]
    down: list[Tick]
    frame: tuple[int, int, int, int]  # left, upper, right, lower
    size: tuple[int, int]  # width, height


def draw(plot: Plot) -> Drawing | None:
    """Return the shapes of a plot; None without a point. Pixels are on a scale of logarithms."""
    if not plot.points:
        return None
    logs = [math.log10(max(1.0, point.pixels)) for point in plot.points]
    least, most = min(logs) - 0.1, max(logs) + 0.25
    low, high, step = _limits([point.score for point in plot.points])
    places = [
        (_LEFT + (_RIGHT - _LEFT) * (value - least) / (most - least), _level(point.score, low, high))
        for value, point in zip(logs, plot.points)
    ]
    down = [Tick(_level(value, low, high), f"{value:g}") for value in _steps(low, high, step)]
    across = []
    for power in range(math.floor(least), math.ceil(most) + 1):
        for digit in (1, 2, 5):
            value = power + math.log10(digit)
            if least <= value <= most:
                at = _LEFT + (_RIGHT - _LEFT) * (value - least) / (most - least)
                across.append(Tick(at, f"{digit * 10.0 ** (power - 6):g}"))
    frame = _LEFT, _TOP, _RIGHT, _BOTTOM
    return Drawing(plot.label, _drawn(plot.points, places), across, down, frame, (WIDTH, HEIGHT))


def _limits(scores: list[float]) -> tuple[float, float, int]:
    """Ends of the axis of scores, and the step between its ticks."""
    span = max(scores) - min(scores)
    step = next((step for step in _STEPS if span / step <= 6), _STEPS[-1])
    low = step * math.floor(min(scores) / step - 0.2)
    high = step * math.ceil(max(scores) / step + 0.2)
    return max(0, low) if min(scores) >= 0 else low, high, step


def _steps(low: float, high: float, step: int) -> list[float]:
    return [low + step * number for number in range(round((high - low) / step) + 1)]


def _level(score: float, low: float, high: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (score - low) / (high - low)


def _drawn(points: Sequence[Point], places: list[tuple[float, float]]) -> list[Drawn]:
    kinds = list(dict.fromkeys(point.kind for point in points))
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    result = []
    for point, (x, y) in zip(points, places):
        style = kinds.index(point.kind)
        said = f"{point.name}: {point.score:.1f}, {point.pixels / 1e6:.2g} million pixels a photograph"
        text = _room(point.name, x, y, taken)
        result.append(Drawn(point.name, said, x, y, style % 6, _mark(_SHAPES[style % len(_SHAPES)]), text))
    return result


def _room(name: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> tuple | None:
    """A place for a name beside (x, y) that covers nothing; it is added to `taken`."""
    length = _LETTER * len(name)
    sides = ("start", x + 10, y + 4), ("end", x - 10 - length, y + 4)
    for anchor, left, base in (*sides, ("middle", x - length / 2, y - 11), ("middle", x - length / 2, y + 20)):
        box = left, base - _LINE + 3, left + length, base + 3
        inside = box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= _BOTTOM
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return {"start": left, "end": left + length, "middle": x}[anchor], base, anchor
    return None


def _overlap(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _mark(shape: str) -> str:
    """The path of a mark around (0, 0)."""
    return {
        "circle": "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z",
        "square": "M-5.5 -5.5h11v11h-11z",
        "diamond": "M0 -7.5L7.5 0L0 7.5L-7.5 0z",
        "triangle": "M0 -7L7 6H-7z",
        "cross": "M-6.5 -2.2h4.3v-4.3h4.4v4.3h4.3v4.4h-4.3v4.3h-4.4v-4.3h-4.3z",
        "down": "M0 7L7 -6H-7z",
    }[shape]
