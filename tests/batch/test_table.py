"""Rows as Parquet, read back by pyarrow's data sets."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from autofocus_jax.batch.table import SCHEMA, Counts, Row, counts, encode, error_row


def row(name, count, seed=0):
    random = np.random.default_rng(seed)
    boxes = random.uniform(0, 99, (count, 4)).astype(np.float32)
    scores, labels = random.uniform(0, 1, count).astype(np.float32), random.integers(0, 3, count).astype(np.int32)
    return Row(name, 60, 90, boxes, scores, labels, np.array([3, 0], np.int64), np.array([3, 9], np.int64), None)


ROWS = [row("a", 3), error_row("bad", "cut off"), row("nothing", 0), row("ü", 2, 1), error_row("worse", "empty")]


@pytest.mark.parametrize("rows", [ROWS, ROWS[1:2], ROWS[:1], ROWS[2:3], []])
def test_what_is_written_comes_back(rows):
    table = pq.read_table(io.BytesIO(encode(rows, "m", "s", ["x", "y"])))
    assert table.schema.equals(SCHEMA) and table.schema.metadata[b"categories"] == b'["x", "y"]'
    table.validate(full=True)
    for written, read in zip(rows, table.to_pylist(), strict=True):
        assert (read["id"], read["error"], read["model"], read["settings"]) == (written.id, written.error, "m", "s")
        for name in ("boxes", "scores", "labels", "pixels"):
            value = getattr(written, name)
            assert read[name] == (None if value is None else value.tolist())


def test_the_same_rows_are_the_same_bytes():
    assert encode(ROWS, "m", "s", ["x"]).to_pybytes() == encode(list(ROWS), "m", "s", ["x"]).to_pybytes()


@pytest.mark.parametrize("rows, errors", [(ROWS, 2), (ROWS[:1], 0), (ROWS[1:2], 1), ([], 0)])
def test_counts(rows, errors):
    assert counts(io.BytesIO(encode(rows, "m", "s", []))) == Counts(len(rows), errors)
