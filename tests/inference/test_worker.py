"""The worker against the plain cascade: batches, bad images, columns."""

import dataclasses

import cv2
import numpy as np
import pytest

from autofocus_jax.inference.worker import Row, Worker
from autofocus_jax.structures import AutoFocusError, Detections, ImageError

pytestmark = pytest.mark.numbers

SHAPES = ((60, 90), (40, 50), (64, 64), (1, 1), (33, 90))


@pytest.fixture(scope="module")
def worker(tiny_variables, tiny_config):
    return Worker(tiny_variables, tiny_config)


@pytest.fixture(scope="module")
def files():
    """PNG files, which keep every pixel, and the images in them."""
    random = np.random.default_rng(2)
    images = [random.integers(0, 255, (*shape, 3), np.uint8) for shape in SHAPES]
    return [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images], images


def rows_of(columns):
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def test_rows_are_what_the_stream_finds(worker, files):
    contents, images = files
    found = rows_of(worker({"id": list("abcde"), "bytes": contents}))
    outcomes = list(worker.stream((lambda image=image: image) for image in images))
    for row, outcome, shape in zip(found, outcomes, SHAPES):
        assert (row["height"], row["width"]) == shape and row["error"] is None
        for name in ("boxes", "scores", "labels"):
            assert np.array_equal(row[name], getattr(outcome.detections, name))
        assert np.array_equal(row["pixels"], outcome.info.pixels)
    assert sum(len(row["scores"]) for row in found) > 0


def found_in(row):
    return Detections(row["boxes"], row["scores"], row["labels"])


def test_batches_do_not_matter(worker, files, check_same_detections):
    """To the promised tolerance what is found, and exactly all the rest."""
    contents, _ = files
    whole = rows_of(worker({"id": list("abcde"), "bytes": contents}))
    alone = [rows_of(worker({"id": [name], "bytes": [content]}))[0] for name, content in zip("abcde", contents)]
    turned = rows_of(worker({"id": list("edcba"), "bytes": contents[::-1]}))[::-1]
    for rows in (alone, turned):
        for row, other in zip(rows, whole, strict=True):
            check_same_detections(found_in(row), found_in(other))
            for name in set(Row._fields) - set(Detections._fields):
                assert np.array_equal(row[name], other[name]), name


def test_the_same_batches_give_the_same_bits(worker, files):
    contents, _ = files
    one, other = (rows_of(worker({"id": list("abcde"), "bytes": contents})) for _ in range(2))
    assert all(np.array_equal(row[name], again[name]) for row, again in zip(one, other) for name in Row._fields)


def test_a_bad_image_is_a_row_with_the_reason(worker, files, tmp_path):
    contents, _ = files
    (tmp_path / "good.png").write_bytes(contents[0])
    batch = {
        "id": ["cut", "good", "empty", "missing", "nothing", 7],
        "bytes": [contents[0][:100], None, b"", None, None, contents[1]],
        "path": [None, str(tmp_path / "good.png"), None, str(tmp_path / "no.png"), None, None],
    }
    found = rows_of(worker(batch))
    assert [row["id"] for row in found] == ["cut", "good", "empty", "missing", "nothing", "7"]
    errors = [row["error"] for row in found]
    assert errors[1] is None and errors[5] is None
    for position, word in ((0, "cut off"), (2, "empty"), (3, "no.png"), (4, "nothing")):
        assert word in errors[position] and found[position]["boxes"] is None and found[position]["pixels"] is None


def test_score_leaves_out_the_weaker(worker, files):
    batch = {"id": ["a"], "bytes": files[0][:1]}
    (all_of_it,) = rows_of(worker(batch))
    limit = float(np.median(all_of_it["scores"]))
    (some,) = rows_of(worker(batch, score=limit))
    keep = all_of_it["scores"] >= limit
    assert 0 < keep.sum() < len(keep) and np.array_equal(some["boxes"], all_of_it["boxes"][keep])


@pytest.mark.parametrize("batch", [{}, {"id": ["a"]}, {"bytes": [b""]}])
def test_columns_that_are_missing(worker, batch):
    with pytest.raises(AutoFocusError, match="without column"):
        worker(batch)


def test_no_rows(worker):
    assert worker({"id": [], "bytes": []}) == {name: [] for name in Row._fields}


def test_other_errors_end_the_stream(worker):
    def broken():
        raise RuntimeError("the disk is gone")

    def bad():
        raise ImageError("no image")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(worker.rows([("a", bad), ("b", broken)]))


def test_changed_settings_share_programs(worker, tiny_config):
    assert worker.changed(dataclasses.replace(tiny_config, window=1)).detector is worker.detector
    assert (
        worker.changed(dataclasses.replace(tiny_config, buckets=tiny_config.buckets[:-1])).detector
        is not worker.detector
    )
