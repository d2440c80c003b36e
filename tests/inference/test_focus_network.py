"""A focus network as a function that says where to look, against its own map, and the words for such functions."""

import jax
import numpy as np
import pytest

from autofocus_jax.config import ConfigError
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.inference.focus_network import look_of, network, probabilities, read_network
from autofocus_jax.inference.model import load
from autofocus_jax.structures import ChipBatch, Detections
from autofocus_jax.weights.safetensors import WeightsError

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


def black(height, width, *squares):
    crop = np.zeros((height, width, 3), np.uint8)
    for y, x, side in squares:
        crop[y : y + side, x : x + side] = 255
    return crop


def test_the_map_is_the_networks(bright_network):
    """At a share of 1, in a padded picture, it is what the detector says of the picture alone."""
    known = read_network(bright_network(gain=1, bias=-12))
    crop = np.random.default_rng(0).integers(0, 9, (70, 150, 3)).astype(np.uint8)
    (focus,) = probabilities(known)([crop], [], None)
    padded = np.zeros((1, 80, 160, 3), np.uint8)
    padded[0, :70, :150] = crop
    chips = ChipBatch(padded, np.array([[70, 150]], np.int32), np.ones(1, bool))
    alone = detector_of(known.settings).detect(known.variables, chips).focus[0]
    assert focus.shape == (5, 10) and focus.std() > 0.01
    np.testing.assert_allclose(focus, alone, atol=1e-5)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.3])
def test_it_looks_where_it_is_bright(bright_network, share):
    (focus,) = network(bright_network(share))([black(200, 330, (100, 240, 12))], [], None)
    assert focus.shape == (13, 21) and focus.dtype == np.float32
    rows, columns = np.nonzero(focus >= 0.02)
    reach = 2 * 16 / share  # px that a cell sees around itself
    assert 0 < len(rows) < 90 and focus[6, 15] >= 0.02
    assert (abs(16 * rows + 8 - 106) <= reach + 16).all() and (abs(16 * columns + 8 - 246) <= reach + 16).all()


def test_its_threshold_becomes_that_of_plans(bright_network):
    known = read_network(bright_network(threshold=0.4, gain=2, bias=-9))
    crop = np.random.default_rng(1).integers(0, 4, (160, 160, 3)).astype(np.uint8)
    (own,), (changed,) = probabilities(known)([crop], [], None), network(known)([crop], [], None)
    assert ((own >= 0.4) == (changed >= np.float32(0.02))).all() and 0 < (own >= 0.4).sum() < own.size
    order = np.argsort(own.ravel(), kind="stable")
    assert (np.diff(changed.ravel()[order]) >= 0).all()


def test_words(bright_network):
    crop, path = black(64, 64, (20, 20, 8)), bright_network()
    found = [Detections(np.array([[40, 2, 50, 12]], np.float32), np.array([0.3], np.float32), np.zeros(1, np.int32))]
    weak, net, both = (look_of(word, path)([crop], [None], found)[0] for word in ("weak", "network", "either"))
    np.testing.assert_array_equal(both, np.maximum(weak, net))
    assert weak[0, 2] == np.float32(0.3) and (weak != net).any() and look_of("none") is None
    for word, given, words in (("network", None, "wants the weights"), ("everywhere", None, "is not known")):
        with pytest.raises(ConfigError, match=words):
            look_of(word, given)


def test_a_model_takes_the_file(bright_network):
    path = bright_network()

    def blind(image):
        return np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)

    results = [load(detector=blind, categories=["thing"], focus=focus)(black(1000, 1800, (400, 700, 20)), stages=True)
               for focus in (path, str(path), None)]  # fmt: skip
    assert [len(result.stages) for result in results] == [2, 2, 2]
    assert results[0].pixels == results[1].pixels < results[2].pixels
    (chip,) = results[0].stages[1].chips
    assert (chip[:2] <= (700, 400)).all() and (chip[2:] >= (720, 420)).all()
    with pytest.raises(ConfigError, match="or None, got 'network'"):
        load(detector=blind, categories=["thing"], focus="network")


def test_other_files(tiny_weights, tmp_path, bright_network):
    for path, words in ((tiny_weights, "are of a detector, not of a focus network"), (tmp_path / "no.safetensors",
                        "do not exist")):  # fmt: skip
        with pytest.raises(WeightsError, match=words):
            read_network(path)
    with pytest.raises(WeightsError, match="have the threshold 2"):
        read_network(bright_network(threshold=2))
    assert jax.tree.leaves(read_network(bright_network()).variables)
