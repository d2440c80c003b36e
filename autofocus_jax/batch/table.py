"""Rows of results as Parquet: one image a row, the same columns for every detector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([
    pa.field("id", pa.string(), nullable=False),
    pa.field("height", pa.int32()),  # px; null, as all that follows but error, where an image failed
    pa.field("width", pa.int32()),
    pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4))),  # x1, y1, x2, y2 in px of the image, best first
    pa.field("scores", pa.list_(pa.float32())),
    pa.field("labels", pa.list_(pa.int32())),
    pa.field("pixels", pa.list_(pa.int64())),  # processed, per scale, coarse to fine
    pa.field("error", pa.string()),  # why the image failed (it cannot be read, or the detector raised), else null
    pa.field("model", pa.string(), nullable=False),  # what `ledger.weights_digest` says
    pa.field("settings", pa.string(), nullable=False),
])  # fmt: skip


class Row(NamedTuple):
    """Result of one image: its detections, or why it failed."""

    id: str
    height: int | None  # px; None where the image failed, as all that follows but `error`
    width: int | None
    boxes: np.ndarray | None  # [n, 4] float32 xyxy, image frame, best first
    scores: np.ndarray | None  # [n] float32
    labels: np.ndarray | None  # [n] int32
    pixels: np.ndarray | None  # [scales] int64, level pixels processed
    full_pixels: np.ndarray | None  # [scales] int64, pixels of the whole levels
    error: str | None


def error_row(name: str, reason: str) -> Row:
    """Return the Row of an image that failed."""
    return Row._make((name, *[None] * (len(Row._fields) - 2), reason))


class Counts(NamedTuple):
    """Number of rows, and number of rows with an error."""

    images: int
    errors: int


def encode(rows: Sequence[Row], model: str, settings: str, categories: Sequence[str]) -> pa.Buffer:
    """Return a Parquet file of rows, with the same bytes for the same rows.

    Args:
        rows: the rows.
        model: hash of the weights, for every row.
        settings: hash of the settings, for every row.
        categories: names of the classes, for the schema's metadata.
    """
    schema = SCHEMA.with_metadata({"categories": json.dumps(list(categories))})
    good = np.array([row.error is None for row in rows], bool)
    found = [row for row in rows if row.error is None]
    counts = [len(row.scores) for row in found]
    boxes = _joined([row.boxes.reshape(-1) for row in found], np.float32)
    columns = {
        "id": [row.id for row in rows],
        "height": [row.height for row in rows],
        "width": [row.width for row in rows],
        "boxes": _lists(pa.FixedSizeListArray.from_arrays(boxes, 4), counts, good),
        "scores": _lists(_joined([row.scores for row in found], np.float32), counts, good),
        "labels": _lists(_joined([row.labels for row in found], np.int32), counts, good),
        "pixels": _lists(_joined([row.pixels for row in found], np.int64), [len(row.pixels) for row in found], good),
        "error": [row.error for row in rows],
        "model": [model] * len(rows),
        "settings": [settings] * len(rows),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema), sink, compression="zstd")
    return sink.getvalue()


def counts(file: Any) -> Counts:
    """Return the counts of a file that `encode` made, from its footer alone."""
    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    place = [metadata.schema.column(number).path for number in range(metadata.num_columns)].index("error")
    nulls = sum(group.column(place).statistics.null_count for group in groups if group.num_rows)
    return Counts(metadata.num_rows, metadata.num_rows - nulls)


def _joined(parts: Iterable[np.ndarray], kind: type) -> pa.Array:
    return pa.array(np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False))


def _lists(values: pa.Array, counts: Sequence[int], good: np.ndarray) -> pa.Array:
    """Lists of `counts` values, one for each row that is good and null for the others."""
    lengths = np.zeros(len(good), np.int64)
    lengths[good] = counts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets, mask=np.append(~good, False)), values)
