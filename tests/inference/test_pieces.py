import numpy as np
import pytest

from autofocus_jax.files import WriteError
from autofocus_jax.inference.pieces import Piece, PieceError, Skipped, load, save
from autofocus_jax.structures import Cost, Detections


def detections(count, seed):
    random = np.random.default_rng(seed)
    return Detections(
        random.random((count, 4)).astype(np.float32), random.random(count).astype(np.float32),
        random.integers(0, 9, count).astype(np.int32),
    )  # fmt: skip


@pytest.mark.parametrize("counts", [(), (0,), (3,), (0, 5, 0, 2)])
def test_round_trip(counts, tmp_path):
    found = [detections(count, seed) for seed, count in enumerate(counts)]
    info = Cost.none(3)._replace(images=len(counts), pixels=np.array([1, 2, 2**40])) if counts else None
    piece = Piece(list(range(len(counts))), found, info, 1.5, [Skipped(9, "ä b.png", 'no "picture"')])
    save(tmp_path / "0.npz", piece)
    again = load(tmp_path / "0.npz")
    assert again.indices == piece.indices and again.seconds == 1.5 and again.skipped == piece.skipped
    for one, other in zip(again.detections, found, strict=True):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype and a.shape == b.shape
    assert (again.info is None) == (info is None)
    for a, b in zip(again.info or (), info or ()):
        np.testing.assert_array_equal(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]


def test_a_piece_is_whole_or_not_there(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"):
        save(tmp_path / "file" / "0.npz", Piece([], [], None, 0.0, []))
    save(tmp_path / "0.npz", Piece([], [], None, 0.0, []))
    content = (tmp_path / "0.npz").read_bytes()
    for end in (0, 10, len(content) // 2, len(content) - 5):
        (tmp_path / "0.npz").write_bytes(content[:end])
        with pytest.raises(PieceError, match="is damaged"):
            load(tmp_path / "0.npz")


def test_any_byte_may_be_wrong(tmp_path):
    """Damage is found, or does not matter; nothing else comes out."""
    path = tmp_path / "0.npz"
    save(path, Piece([3], [detections(2, 0)], Cost.none(2), 1.5, []))
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            load(path)
        except PieceError:
            refused += 1
    assert refused > len(whole) / 30
