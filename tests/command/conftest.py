"""What tests of the command line share: the command in this process, with one compiled tiny detector."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from autofocus_jax.command import detect
from autofocus_jax.command.main import main


@pytest.fixture
def autofocus(capsys, monkeypatch, tiny_model, tmp_path):
    """autofocus(word, …) -> (exit code, stdout, stderr); in tmp_path, and the weights "tiny" are the tiny detector."""
    load = detect.load

    def load_tiny(weights, config=None, names=None):
        if weights != "tiny":
            return load(weights, config, names)
        return tiny_model.renamed(names) if names else tiny_model

    monkeypatch.setattr(detect, "load", load_tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words):
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def pictures(tmp_path):
    """A folder of three images: a.png 60 x 90, below/b.jpg 40 x 50, below/a.jpg 64 x 64 (height x width)."""
    random = np.random.default_rng(5)
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for name, shape in (("a.png", (60, 90)), ("below/b.jpg", (40, 50)), ("below/a.jpg", (64, 64))):
        cv2.imwrite(str(folder / name), random.integers(0, 255, (*shape, 3), np.uint8))
    return folder
