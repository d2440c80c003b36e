"""Batches that were kept for inspection."""

import cv2
import numpy as np
import pytest

from autofocus_jax.structures import AutoFocusError, ChipBatch, TrainBatch
from autofocus_jax.training import bad_batch


@pytest.fixture
def batch():
    """Random arrays of the shapes and types of a batch of two chips."""
    draw = np.random.default_rng(0)
    chips = ChipBatch(draw.integers(0, 255, (2, 64, 64, 3), np.uint8), np.array([[64, 64], [33, 17]], np.int32),
                      np.array([True, False]))  # fmt: skip
    flags = draw.random((2, 2, 3)) < 0.5
    return TrainBatch(chips, draw.uniform(0, 64, (2, 3, 4)).astype(np.float32), np.array([[0, 1, -1]] * 2, np.int32),
                      flags[0], flags[1], draw.integers(-1, 2, (2, 4, 4)).astype(np.int8))  # fmt: skip


def test_saved_batches_come_back_with_a_picture(tmp_path, batch):
    batch.boxes[0, 0] = np.nan
    info = {"loss": np.float32(np.nan), "focus": np.float32(0.5)}
    path = bad_batch.save(tmp_path / "deep" / "bad_batch_000012.npz", batch, info)
    found = bad_batch.load(path)
    assert found.info.keys() == info.keys() and np.isnan(found.info["loss"]) and found.info["focus"] == 0.5
    pairs = [*zip(found.batch.chips, batch.chips), *zip(found.batch[1:], batch[1:])]
    for mine, wanted in pairs:
        assert mine.dtype == wanted.dtype
        np.testing.assert_array_equal(mine, wanted)
    with np.load(path) as file:  # anybody's tools
        assert {"pixels", "size", "valid", "boxes", "labels", "present", "trainable", "focus"} < set(file)
    assert cv2.imread(str(path.with_suffix(".png"))) is not None
    assert {entry.suffix for entry in path.parent.iterdir()} == {".npz", ".png"}


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"PK\x03\x04 cut off"])
def test_files_that_hold_no_batch_are_one_line(tmp_path, content):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AutoFocusError, match=r"a\.npz is no saved batch") as caught:
        bad_batch.load(path)
    assert "\n" not in str(caught.value)
