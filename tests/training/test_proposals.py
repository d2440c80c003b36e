"""The file of proposals: what was written comes back, and files that do not fit are one line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autofocus_jax.files import WriteError
from autofocus_jax.structures import ImageInfo
from autofocus_jax.training import proposals
from autofocus_jax.training.proposals import ProposalsError

SIDES = st.floats(0, 3000, width=32)


class Named:
    """A data set of so many images, or of given names; of 60 x 90 px."""

    def __init__(self, names):
        self.names = [f"{number}.png" for number in range(names)] if isinstance(names, int) else names

    def __len__(self):
        return len(self.names)

    def info(self, index):
        return ImageInfo(index + 1, self.names[index], 60, 90)


def write(path, boxes, **origin):
    proposals.write(path, boxes, Named(len(boxes)), origin)


def read(path, names):
    return proposals.read(path, Named(names))


@settings(max_examples=25)
@given(st.lists(hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=SIDES), max_size=6))
def test_boxes_come_back_on_whole_pixels(tmp_path_factory, images):
    path = tmp_path_factory.getbasetemp() / "proposals.npz"
    write(path, images)
    found_again = read(path, len(images))
    for index, boxes in enumerate(images):
        found = found_again(index)
        assert found.dtype == np.float32 and found.shape == boxes.shape
        low, high = boxes[:, :2] - found[:, :2], found[:, 2:] - boxes[:, 2:]
        assert (found == np.round(found)).all() and (low >= 0).all() and (high >= 0).all()
        assert (low <= 1).all() and (high <= 1).all()  # the least floats round up to 1
    assert not list(path.parent.glob(".*.partial*"))


def test_images_of_more_than_65535_pixels(tmp_path):
    write(tmp_path / "p.npz", [np.array([[0, 5, 100_000, 65_536]], np.float32)])
    assert read(tmp_path / "p.npz", 1)(0).tolist() == [[0, 5, 100_000, 65_536]]


def test_memory_is_eight_bytes_a_proposal(tmp_path):
    write(tmp_path / "p.npz", [np.ones((1000, 4), np.float32)] * 10)
    with np.load(tmp_path / "p.npz") as content:
        assert content["boxes"].nbytes == 8 * 10_000


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "proposals.npz"
    with pytest.raises(ProposalsError, match=r"do not exist; run the stage of the proposals first"):
        read(path, 1)
    write(path, [np.ones((2, 4), np.float32), np.zeros((0, 4), np.float32)])
    with pytest.raises(ProposalsError, match=r"are of other images .*images: 2 -> 3"):
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


def test_other_images_of_the_same_number(tmp_path):
    """Boxes that lie on one image say nothing of another one."""
    write(tmp_path / "p.npz", [np.ones((1, 4), np.float32)] * 2)
    assert len(read(tmp_path / "p.npz", ["0.png", "1.png"])(1)) == 1
    with pytest.raises(ProposalsError, match=r"p.npz are of other images \(names and sizes: .*\); remove the file"):
        read(tmp_path / "p.npz", ["0.png", "2.png"])


def test_a_file_knows_the_weights_that_proposed(tmp_path):
    write(tmp_path / "p.npz", [np.ones((1, 4), np.float32)], weights="0123")
    assert proposals.origin_of(tmp_path / "p.npz") == {"weights": "0123"}


def test_a_file_of_an_older_version(tmp_path):
    np.savez(tmp_path / "p.npz", boxes=np.ones((2, 4), np.uint16), starts=np.array([0, 1, 2]))
    with pytest.raises(ProposalsError, match=r"of an older version, .*; remove the file and run the stage of"):
        read(tmp_path / "p.npz", 2)


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
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"):
        write(tmp_path / "file" / "p.npz", [])
    assert read(tmp_path / "p.npz", 1)(0).tolist() == [[1, 1, 1, 1]]
