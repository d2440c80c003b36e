"""From an ONNX file to a detector in one call: `load_onnx("model.onnx")`."""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autofocus_jax.foreign import onnx_classes
from autofocus_jax.foreign.detr_layouts import DETR_LAYOUTS
from autofocus_jax.foreign.found import Choice, CropDetector, ForeignError, Raw, checked, choose, first_line
from autofocus_jax.foreign.layouts import Layout, Seen, named, tell
from autofocus_jax.foreign.nms_layouts import NMS_LAYOUTS
from autofocus_jax.foreign.onnx_session import Session, open_session
from autofocus_jax.foreign.onnx_settings import OnnxSettings
from autofocus_jax.foreign.preparation import Back, Preparation, blank, fit_into, pad_to_multiple, to_input
from autofocus_jax.foreign.yolo_layouts import YOLO_LAYOUTS
from autofocus_jax.structures import Detections

# Looked through in this order: those told by names come before those told by shapes.
LAYOUTS: tuple[Layout, ...] = (*NMS_LAYOUTS, *DETR_LAYOUTS, *YOLO_LAYOUTS)

# The outputs by name, for canvases of one (height, width) -> a Raw for each canvas, boxes in canvas px.
Decode = Callable[[Mapping[str, np.ndarray], tuple[int, int]], Sequence[Raw]]

_LEAST = 32  # px, side of an input
_SURELY = 10  # boxes without an area, and no other, that a layout is wrong by
_MOST_SCORE = 1.001  # 16-bit weights may pass 1 a little
_MULTIPLES = (32, 64, 128)  # of the sides of a free input, tried in this order where the file does not say


def load_onnx(
    path: str | os.PathLike, settings: OnnxSettings = OnnxSettings(), decode: Decode | None = None
) -> CropDetector:
    """Make a detector of an ONNX file.

    Args:
      path: the file.
      settings: what is known better than the file says it.
      decode: reads the outputs in place of a layout.

    Returns: the detector. Its `find` is not thread-safe in its use of cores: one call at a time is fastest.

    Raises:
      ForeignError: what open_session raises, a layout that cannot be told, or settings that contradict the file.
    """
    session = open_session(path, settings.providers, settings.threads)
    names = settings.categories or onnx_classes.names_in(session.metadata)
    seen, multiple = _look(session, names, settings.side)
    doubt = ""
    if decode is None:
        layout = named(settings.layout, LAYOUTS) if settings.layout else tell(seen, LAYOUTS)
        doubt = layout.tells(seen)
    else:
        layout = Layout("own", "a decode function of the user's", Preparation(), lambda _: "",
                        lambda answers, _, size, least: list(decode(answers, size)), nms=True)  # fmt: skip
    changes = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Preparation)}
    preparation = dataclasses.replace(layout.preparation, **{k: v for k, v in changes.items() if v is not None})
    raw = _decoded(layout, dict(zip((tensor.name for tensor in seen.outputs), seen.answers)), seen, seen.size, 0.0)[0]
    categories, source = onnx_classes.categories(raw, names, layout, bool(settings.categories))
    only = onnx_classes.positions(settings.only, categories)
    batch = _batch(session, layout, settings.batch)
    choice = Choice(settings.score_threshold, settings.nms_iou if layout.nms else None, settings.most,
                    layout.every_class, only)  # fmt: skip
    fixed = _fixed(session.sides) or settings.side
    if fixed and min(fixed) < _LEAST:
        raise ForeignError(f"model {path} takes {fixed[0]}x{fixed[1]} px; want sides of at least {_LEAST} px")
    if fixed and settings.side not in (None, fixed):
        raise ForeignError(f"a side of {settings.side} for model {path}, whose input is fixed to {fixed}; leave it out")
    if any(side % multiple for side in fixed or ()):
        raise ForeignError(f"side must be of multiples of {multiple} px, got {fixed}")
    shown = settings.only or categories
    find = _finder(session, layout, seen, preparation, choice, batch, fixed, multiple, len(shown))
    about = (
        ("file", str(path)),
        ("inputs", ", ".join(map(str, session.inputs))),
        ("outputs", ", ".join(f"{tensor} -> {list(a.shape)}" for tensor, a in zip(seen.outputs, seen.answers))),
        ("layout", f"{layout.name}: {layout.what}" + (f"; as asked, but {doubt}" if doubt else "")),
        ("input side", f"{fixed[0]}x{fixed[1]} px" if fixed else f"free, multiples of {multiple} px"),
        ("batch", str(batch)),
        ("pixels", _in_words(preparation)),
        ("classes", f"{len(shown)}, {source}: {', '.join(shown[:5])}{', …' if len(shown) > 5 else ''}"),
        ("runs on", session.provider),
    )
    made_for = None if fixed else _number(session, "imgsz")
    return CropDetector(find, fixed, multiple, preparation.padding, shown, about, made_for)


def _finder(
    session: Session,
    layout: Layout,
    seen: Seen,
    preparation: Preparation,
    choice: Choice,
    batch: int,
    fixed: tuple[int, int] | None,
    multiple: int,
    classes: int,
) -> Callable[[Sequence[np.ndarray]], list[Detections]]:
    """The `find` of a CropDetector: crops of one canvas size go together, at most `batch` of them."""
    full = session.batch is not None  # a run takes exactly `batch`

    def find(crops: Sequence[np.ndarray]) -> list[Detections]:
        placed: list[Any] = []
        groups: dict[Any, list[int]] = {}
        for row, crop in enumerate(crops):
            _check(crop, row)
            size = fixed or tuple(-(-side // multiple) * multiple for side in crop.shape[:2])
            if fixed:
                canvas, back = fit_into(crop, size, preparation)
            else:
                canvas, back = pad_to_multiple(crop, multiple, preparation.padding), None
            placed.append((canvas, back))
            groups.setdefault(size, []).append(row)
        found: list[Detections] = [None] * len(crops)
        for size, rows in groups.items():
            for start in range(0, len(rows), batch):
                chunk = rows[start : start + batch]
                canvases = [placed[row][0] for row in chunk]
                canvases += [blank(size, preparation.padding)] * (batch - len(chunk) if full else 0)
                pixels = to_input(canvases, preparation, np.dtype(session.image.dtype), session.channels_first)
                raws = _decoded(layout, _answer(session, pixels, size), seen, size, choice.threshold)
                if len(raws) != len(canvases):
                    raise ForeignError(
                        f"model {session.path} answers for {len(raws)} of {len(canvases)} crops; give a batch of 1"
                    )
                for row, raw in zip(chunk, raws):
                    found[row] = _finish(choose(raw, choice), placed[row][1], session, classes)
        return found

    return find


def _finish(found: Detections, back: Back | None, session: Session, classes: int) -> Detections:
    """Boxes in crop px, those without an area left out; ForeignError where labels, scores or boxes make no sense."""
    strange = found.labels[(found.labels < 0) | (found.labels >= classes)]
    if len(strange):
        raise ForeignError(
            f"model {session.path} answers label {strange[0]} where {classes} classes are known; "
            "give the names of all its classes, or another layout"
        )
    if not np.isfinite(found.boxes).all():
        raise ForeignError(f"model {session.path} answers boxes that are no finite numbers; try 32-bit weights")
    if len(found.scores) and found.scores.max() > _MOST_SCORE:
        raise ForeignError(f"model {session.path} answers a score of {found.scores.max():g}, above 1; "
                           "choose another layout")  # fmt: skip
    shown = np.all(found.boxes[:, 2:] > found.boxes[:, :2], axis=1)
    if len(shown) >= _SURELY and not shown.any():
        raise ForeignError(f"model {session.path} answers {len(shown)} boxes and all of them without an area, as "
                           f"{found.boxes[0].tolist()}; choose another layout")  # fmt: skip
    found = Detections(*(field[shown] for field in found))
    return found if back is None else found._replace(boxes=back(found.boxes))


def _look(session: Session, names: tuple[str, ...] | None, side: tuple[int, int] | None) -> tuple[Seen, int]:
    """Run a grey canvas, which shows the shapes that the file leaves free; and what the sides must be multiples of.

    A file that says that its sides are free may run at the side of its export alone, which is then `side`.
    """
    fixed, told = _fixed(session.sides), _number(session, "stride")
    multiples = (1,) if fixed else (told,) if told else _MULTIPLES
    # Odd times a multiple, so that no larger one is taken for it.
    tries = [(fixed or (7 * multiple, 9 * multiple), multiple) for multiple in multiples]
    problem = None
    for size, multiple in tries if fixed or side is None else (*tries, (side, 1)):
        canvases = [np.full((*size, 3), 114, np.uint8)] * (session.batch or 1)
        pixels = to_input(canvases, Preparation(), np.dtype(session.image.dtype), session.channels_first)
        try:
            answers = session.answer(pixels, size)
        except Exception as error:  # onnxruntime's errors share no base but Exception
            problem = error
            continue
        arrays = tuple(answers[tensor.name] for tensor in session.outputs)
        seen = Seen(session.inputs, session.outputs, session.metadata, size, arrays, len(names) if names else None)
        return seen, multiple
    tried = "its own size" if fixed else f"sides of multiples of {', '.join(map(str, multiples))}"
    fix = "export it again" if fixed else "give the side of its export (canvas)"
    raise ForeignError(
        f"model {session.path} does not run on a canvas of {tried}; {fix}: {first_line(problem)}"
    ) from problem


def _answer(session: Session, pixels: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    try:
        return session.answer(pixels, size)
    except Exception as error:
        raise ForeignError(
            f"model {session.path} fails on {len(pixels)} canvases of {size[0]}x{size[1]} px: {first_line(error)}"
        ) from error


def _decoded(
    layout: Layout, answers: Mapping[str, np.ndarray], seen: Seen, size: tuple[int, int], least: float
) -> list[Raw]:
    try:
        return [checked(raw) for raw in layout.decode(answers, seen, size, least)]
    except ForeignError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in answers.items())
        raise ForeignError(
            f"layout {layout.name} cannot read the outputs {shapes}: {first_line(error)}; choose another layout"
        ) from error


def _fixed(sides: tuple[int | None, int | None]) -> tuple[int, int] | None:
    """(height, width) of the input, a free side being as long as one that is not; None where both are free."""
    height, width = sides
    return None if height is None and width is None else (height or width, width or height)


def _number(session: Session, key: str) -> int | None:
    """A number of the metadata, or the largest of several, as Ultralytics writes it; None where there is none."""
    text = session.metadata.get(key)
    try:
        return None if text is None else int(np.max(ast.literal_eval(text)))
    except (ValueError, SyntaxError, TypeError):
        return None


def _batch(session: Session, layout: Layout, asked: int | None) -> int:
    """Canvases of one run."""
    most = session.batch if layout.batched else 1
    if asked is not None and most is not None and asked != most:
        raise ForeignError(f"a batch of {asked} for model {session.path}, which takes {most}; leave batch out")
    return most or asked or 1


def _in_words(preparation: Preparation) -> str:
    place = "stretched" if preparation.fit == "stretch" else (
        f"letterboxed {'in the centre' if preparation.centred else 'at the upper left'} on RGB {preparation.padding}"
    )  # fmt: skip
    return f"{preparation.channels}, (pixel - {preparation.mean}) / {preparation.deviation}, {place}"


def _check(crop: np.ndarray, row: int) -> None:
    if not (isinstance(crop, np.ndarray) and crop.dtype == np.uint8 and crop.ndim == 3 and crop.shape[2] == 3):
        came = f"{crop.dtype} {list(crop.shape)}" if isinstance(crop, np.ndarray) else type(crop).__name__
        raise ForeignError(f"crop {row} is {came}; give uint8 RGB [h, w, 3]")
