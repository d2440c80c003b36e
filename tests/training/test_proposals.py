"""The file of proposals: what was written comes back, and files that do not fit are one line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autofocus_jax.training.proposals import ProposalsError, read, write

SIDES = st.floats(0, 3000, width=32)


@settings(max_examples=25)
@given(st.lists(hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=SIDES), max_size=6))
def test_boxes_come_back_on_whole_pixels(tmp_path_factory, images):
    path = tmp_path_factory.getbasetemp() / "proposals.npz"
    write(path, images)
    proposals = read(path, len(images))
    for index, boxes in enumerate(images):
        found = proposals(index)
        assert found.dtype == np.float32 and found.shape == boxes.shape
        low, high = boxes[:, :2] - found[:, :2], found[:, 2:] - boxes[:, 2:]
        assert (found == np.round(found)).all() and (low >= 0).all() and (high >= 0).all()
        assert (low <= 1).all() and (high <= 1).all()  # the least floats round up to 1
    assert not path.with_name("proposals.npz.partial").exists()


def test_images_of_more_than_65535_pixels(tmp_path):
    write(tmp_path / "p.npz", [np.array([[0, 5, 100_000, 65_536]], np.float32)])
    assert read(tmp_path / "p.npz", 1)(0).tolist() == [[0, 5, 100_000, 65_536]]


def test_memory_is_eight_bytes_a_proposal(tmp_path):
    write(tmp_path / "p.npz", [np.ones((1000, 4), np.float32)] * 10)
    with np.load(tmp_path / "p.npz") as content:
        assert content["boxes"].nbytes == 8 * 10_000


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "proposals.npz"
    with pytest.raises(ProposalsError, match=r"do not exist; run train\.py with --stage proposals"):
        read(path, 1)
    write(path, [np.ones((2, 4), np.float32), np.zeros((0, 4), np.float32)])
    with pytest.raises(ProposalsError, match="of 2 images but the data set has 3"):
        read(path, 3)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no archive"):
        path.write_bytes(damaged)
        with pytest.raises(ProposalsError, match="cannot be read") as caught:
            read(path, 2)
        assert "\n" not in str(caught.value)
    np.savez(path, boxes=np.ones((2, 4), np.uint16), starts=np.array([0, 5, 2]))
    with pytest.raises(ProposalsError, match="damaged"):
        read(path, 2)
    np.savez(path, boxes=np.ones((2, 4), np.uint16))
    with pytest.raises(ProposalsError, match="cannot be read"):
        read(path, 2)


def test_any_byte_may_be_wrong(tmp_path):
    """Damage is found, or does not matter; nothing else comes out."""
    path = tmp_path / "proposals.npz"
    write(path, [np.arange(400, dtype=np.float32).reshape(-1, 4), np.ones((1, 4), np.float32)])
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            read(path, 2)(0)
        except ProposalsError:
            refused += 1
    assert refused > len(whole) / 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_boxes_that_are_none_are_not_written(tmp_path, value):
    with pytest.raises(ProposalsError, match="want boxes in image px"):
        write(tmp_path / "p.npz", [np.array([[0, 0, 1, value]], np.float32)])
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_when_writing_fails(tmp_path):
    write(tmp_path / "p.npz", [np.ones((1, 4), np.float32)])
    with pytest.raises(ProposalsError, match="cannot be written"):
        write(tmp_path / "none" / "p.npz", [])
    assert read(tmp_path / "p.npz", 1)(0).tolist() == [[1, 1, 1, 1]]
