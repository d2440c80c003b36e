"""The detector against the authors' own network (run by MXNet) and the v1.5 backbone against torchvision's.

`pytest -s` prints the table of docs/fidelity.md, in the errors of golden_cases.py.
"""

import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from autofocus_jax.detector.two_stage_network import forward, propose
from autofocus_jax.weights.safetensors import WeightsError

pytestmark = pytest.mark.numbers

cases = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("golden_cases.py"))))
DETECTOR, half_open = cases.DETECTOR, cases.half_open


def check(errors, tolerance):
    for name, error in errors.items():
        print(f"{name}: {error:.1e}")
        assert error <= tolerance, f"{name}: {error} standard deviations"


@pytest.fixture(scope="module")
def golden():
    return cases.sniper_golden()


@pytest.fixture(scope="module")
def variables():
    return cases.sniper_variables()


@pytest.fixture(scope="module")
def chips(golden):
    return cases.sniper_chips(golden)


@pytest.fixture(scope="module")
def maps(variables, chips):
    return cases.sniper_maps(variables, chips)


def test_maps(golden, maps):
    errors = cases.map_errors(golden, maps)
    assert len(errors) == 4
    check(errors, 2e-3)


def test_proposals(golden, chips, maps):
    """As a set: every proposal of theirs has one of ours and the other way round."""
    found = jax.device_get(jax.jit(partial(propose, DETECTOR))(maps, chips.size))
    boxes = half_open(golden["proposals"], 2)
    scores = golden["proposal_scores"].reshape(2, -1)
    for row in range(2):
        assert found.valid[row].all()
        ours, theirs = (
            np.concatenate([boxes / golden["proposals"][:, 1:].std(), scores[:, None] / scores.std()], axis=1)
            for boxes, scores in ((found.boxes[row], found.scores[row]), (boxes[row], scores[row]))
        )
        distance = np.abs(ours[:, None] - theirs).max(axis=2)
        nearest = distance.argmin(axis=1)
        print(f"proposals of image {row}: {distance.min(axis=1).max():.1e}")
        assert len(set(nearest)) == len(theirs) and distance.min(axis=1).max() <= 2e-3


def test_heads_on_their_proposals(golden, variables, maps):
    errors = cases.head_errors(golden, variables, maps)
    assert len(errors) == 3
    check(errors, 2e-3)


def test_masks_change_only_the_padded_image(variables, chips, maps):
    """The first image fills the map, so that masks leave it alone; the second does not."""
    masked = jax.jit(partial(forward, DETECTOR))(variables, chips)
    scale = float(np.std(maps.features))
    np.testing.assert_allclose(masked.features[0], maps.features[0], atol=1e-3 * scale)
    assert np.abs(np.asarray(masked.features[1] - maps.features[1]))[:13, :18].max() > 1e-2 * scale


def test_v1_backbone_against_torchvision():
    errors = cases.torchvision_errors()
    assert list(errors) == ["layer1", "layer2", "layer3", "layer4"]
    check(errors, 1e-3)


def test_no_array_of_torchvision_is_passed_over():
    with pytest.raises(WeightsError, match=r"unexpected.*stage4_unit3"):
        cases.torchvision_errors((3, 4, 23, 2))
