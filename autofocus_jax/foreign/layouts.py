"""Declarations of an ONNX file, and layouts: the ways in which detectors answer. A layout is a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.foreign.found import ForeignError, Raw
from autofocus_jax.foreign.preparation import Preparation

Size = tuple[int, int]  # (height, width), px
STRIDES = (8, 16, 32)  # px per cell of the usual three grids


class Tensor(NamedTuple):
    """An input or output as the file declares it."""

    name: str
    shape: tuple[int | None, ...]  # None for a side that is free
    dtype: str  # of NumPy

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} {self.dtype} [{sides}]"


class Seen(NamedTuple):
    """Facts of a model before its layout is known: its declarations, and its answer to a grey canvas."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    size: tuple[int, int]  # (height, width) of the grey canvas
    answers: tuple[np.ndarray, ...]  # of that canvas, one per output
    classes: int | None  # number of names that are known

    def answer(self, name: str) -> np.ndarray | None:
        """Return the answer of an output by its name, None where there is none."""
        return next((answer for tensor, answer in zip(self.outputs, self.answers) if tensor.name == name), None)

    def has_input(self, name: str) -> bool:
        return any(tensor.name == name for tensor in self.inputs)

    def described(self) -> str:
        """Return all of it in one line, for errors."""
        answers = ", ".join(f"{tensor} -> {list(answer.shape)}" for tensor, answer in zip(self.outputs, self.answers))
        told = ", ".join(sorted(self.metadata)) or "none"
        return f"inputs {', '.join(map(str, self.inputs))}; outputs {answers}; metadata {told}"


class Layout(NamedTuple):
    """A way in which detectors answer.

    - tells(seen) returns "" if a model has this layout, else the reason why not.
    - decode(answers, seen, size, least) takes the outputs by name for canvases of `size` and returns a Raw for each
      canvas, boxes in canvas px. Rows whose scores are below `least` may be left out.
    """

    name: str
    what: str  # in words, for people
    preparation: Preparation
    tells: Callable[[Seen], str]
    decode: Callable[[Mapping[str, np.ndarray], Seen, Size, float], list[Raw]]
    nms: bool  # whether NMS is still to be done
    every_class: bool = False  # whether a row counts once for each class
    batched: bool = True  # whether several canvases go in one run
    coco: bool = False  # whether labels are those of COCO's 80 classes where no names are known


def cells(size: tuple[int, int], strides: Sequence[int] = STRIDES) -> int:
    """Return how many cells the grids of a canvas of `size` have."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def only_answer(seen: Seen) -> np.ndarray | None:
    """Return the first answer where it has rank 3 and no other one has a rank of 2 or 3, else None."""
    ranks = [answer.ndim for answer in seen.answers]
    return seen.answers[0] if ranks[0] == 3 and all(rank > 3 for rank in ranks[1:]) else None


def tell(seen: Seen, layouts: Sequence[Layout]) -> Layout:
    """Return the first layout that a model has; ForeignError, which lists what was seen, where it has none."""
    reasons = []
    for layout in layouts:
        reason = layout.tells(seen)
        if not reason:
            return layout
        reasons.append(f"{layout.name}: {reason}")
    raise ForeignError(
        f"the outputs are of no layout that is known; seen: {seen.described()}; {'; '.join(reasons)}; "
        "name a layout, or pass a decode function of your own"
    )


def named(name: str, layouts: Sequence[Layout]) -> Layout:
    """Return the layout of a name; ForeignError where there is none."""
    for layout in layouts:
        if layout.name == name:
            return layout
    raise ForeignError(f"there is no layout {name!r}; want one of {', '.join(layout.name for layout in layouts)}")
