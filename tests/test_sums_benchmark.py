"""benchmarks/sums.py: its formulae by hand and by XLA's count, and its tables in docs/benchmarks.md."""

import contextlib
import dataclasses
import importlib
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.detector.heads import FocusHead, ProposalHead

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def sums():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("sums")


def counted(function, *arguments):
    """XLA's FLOP of a compiled function of arrays of these shapes."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_taps_by_hand(sums):
    """A line of 5 cells loses a tap at each end, and two with dilation 2; the 7 taps at stride 2 lose 3, 1 and 2."""
    assert sums.taps(5, 3) == 13 and sums.taps(5, 3, dilation=2) == 11
    assert sums.taps(6, 7, stride=2) == 4 + 6 + 5 and sums.taps(9, 1, stride=3) == 3


@pytest.mark.parametrize("groups", [0, 4])
def test_the_backbone_by_xla(sums, groups):
    """XLA also counts element-wise work, a few per cent at these channels."""
    config = BackboneConfig(units=(1, 2, 1, 1), channels=(32, 64, 128, 128, 256), deformable_groups=groups)
    network = backbone(dataclasses.replace(config, folded=True))
    images, size = jnp.zeros((1, 128, 192, 3)), jnp.array([[128, 192]])
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, size, False))
    found = counted(lambda v, x: network.apply(v, x, size, False), variables, images)
    parts = sums.backbone(config, 128, 192)
    assert ("deformable 3x3 of stage 4" in parts) == (groups > 0)
    assert 0.95 * found < sum(part.flops for part in parts.values()) < found


def test_the_heads_by_xla(sums):
    config = DetectorConfig(backbone=BackboneConfig(channels=(8, 16, 32, 64, 96)), rpn_channels=32, focus_channels=16)
    parts, features = sums.parts(config, 192, 256), jnp.zeros((1, 12, 16, 160))
    shapes = len(config.anchors.ratios) * len(config.anchors.sizes)
    for name, head in (("RPN", ProposalHead(32, shapes)), ("focus head", FocusHead(16))):
        variables = jax.eval_shape(head.init, jax.random.key(0), features)
        found = counted(head.apply, variables, features)
        assert 0.97 * found < parts[name].flops < found


def test_pooling_visits_the_cells_of_a_patch(sums):
    """As many as the bins of the largest RoI touch: a bin's first and last sample, and the cells beside them."""
    for cells in (8, 15, 22, 32, 125):
        samples = -0.5 + (cells / 7) * (np.arange(7)[:, None] + np.arange(4) / 4)
        touched = (np.floor(samples[:, -1]) + 1 - np.floor(samples[:, 0]) + 1).max()
        assert touched <= sums.patch(cells, 7) <= touched + 1


def test_the_tables_of_the_guide(sums):
    """What the program prints, in the section of its name."""
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = text.partition("## What a GPU should do\n")[2].partition("\n## ")[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        sums.main()
    lines = [line for line in printed.getvalue().splitlines() if line]
    assert len(lines) > 20 and [line for line in lines if line not in section] == []
