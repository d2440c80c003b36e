"""autofocus detect --follow: videos in which the last frames say where to look."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from autofocus_jax.command import video

pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")

FRAMES, WORDS = 12, ("--padding", "0", "0", "0", "--threads", "1", "--side", "96", "--write", "csv")


@pytest.fixture
def films(squares):
    """Two videos beside the photographs, of a red square of 16 px on black: it moves in a.mp4 and is still in b.mp4."""
    for name, step in (("a", 8), ("b", 0)):
        film = video.VideoWriter(squares / f"{name}.mp4", 256, 384, 25)
        for number in range(FRAMES):
            frame = np.zeros((256, 384, 3), np.uint8)
            x = 64 + step * number
            frame[96:112, x : x + 16, 0] = 255
            film.add(frame)
        film.close()
    return squares


@pytest.fixture
def run(autofocus, square_finder):
    """run(path, word, …) -> (name -> boxes of each image and frame, share of the pyramid's pixels, in %)."""

    def detect(path, *words):
        code, out, err = autofocus("detect", path, "--detector", square_finder(), *WORDS, *words)
        assert (code, err) == (0, ""), err
        found = {}
        for row in csv.DictReader(Path("runs/detect/detections.csv").read_text().splitlines()):
            found.setdefault(row["image"], []).append([float(row[side]) for side in ("x1", "y1", "x2", "y2")])
        return found, float(re.search(r"([\d.]+)% of the pyramid's pixels", out)[1])

    return detect


def test_a_followed_video_costs_less_and_finds_what_frame_by_frame_finds(run, films):
    alone, whole = run(films / "a.mp4")
    followed, part = run(films / "a.mp4", "--follow", "6")
    assert set(followed) == set(alone) == {f"a.mp4#{number}" for number in range(FRAMES)}
    for number in range(FRAMES):  # the finder answers cells of 8 px in the square
        truth = np.array([64 + 8 * number, 96, 80 + 8 * number, 112])
        for box in followed[f"a.mp4#{number}"]:
            assert np.abs(np.array(box) - truth).max() <= 20
    assert part < 0.7 * whole


def test_photographs_are_as_without_and_each_video_starts_anew(run, films):
    alone, _ = run(films)
    followed, _ = run(films, "--follow", "6")
    photographs = [name for name in alone if "#" not in name]
    assert len(photographs) == 4 and all(followed[name] == alone[name] for name in photographs)
    for name in ("a.mp4#0", "b.mp4#0", "a.mp4#6", "b.mp4#6"):  # full looks
        assert followed[name] == alone[name]


def test_wrong_numbers_and_no_video(autofocus, square_finder, squares):
    words = ("detect", squares, "--detector", square_finder(), "--follow")
    assert autofocus(*words, "0")[0::2] == (
        1,
        "autofocus detect: --follow 0; want a whole frame every 1 frame or more\n",
    )
    code, _, err = autofocus(*words, "5")
    assert code == 1 and "--follow is for videos" in err
