"""The backbone: shapes of the paper's ResNet-101, true cells, and answers that do not depend on the padding."""

import jax
import numpy as np
import pytest

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.detector.resnet import ResNet
from autofocus_jax.detector.two_stage_network import Network, forward
from autofocus_jax.weights.safetensors import flatten


def test_true_cells():
    size = np.array([[0, 0], [1, 16], [17, 33], [64, 64]])
    cells = np.asarray(true_cells(size, 4, 4, 16))[..., 0]
    for row, (rows, columns) in enumerate([(0, 0), (1, 1), (2, 3), (4, 4)]):
        expected = np.zeros((4, 4), bool)
        expected[:rows, :columns] = True
        assert (cells[row] == expected).all()
    assert np.asarray(true_cells(size, 2, 3, 2)).shape == (4, 2, 3, 1)


@pytest.mark.parametrize("side", [(16, 16), (256, 320), (512, 512)])
def test_features_have_3072_channels_at_stride_16(side):
    images, size = np.zeros((2, *side, 3), np.float32), np.full((2, 2), 16)

    def features():
        return ResNet(BackboneConfig()).init_with_output(jax.random.key(0), images, size, False)[0]

    assert jax.eval_shape(features).shape == (2, side[0] // 16, side[1] // 16, 3072)


def test_parameters_of_resnet_101():
    """Counted from the paper's table: 1 + 33 * 3 convolutions and 4 projections, 3 batch norms a unit and 2 before."""
    shapes = jax.eval_shape(
        lambda: ResNet(BackboneConfig()).init(jax.random.key(0), np.zeros((1, 32, 32, 3)), np.full((1, 2), 32), False)
    )
    shapes = {name: array.shape for name, array in flatten(shapes["params"]).items()}
    kernels = [shape for name, shape in shapes.items() if name.endswith("kernel")]
    expected, before = 7 * 7 * 3 * 64, 64
    for units, width in zip((3, 4, 23, 3), (256, 512, 1024, 2048)):
        expected += before * width
        for _ in range(units):
            expected += before * width // 4 + 9 * (width // 4) ** 2 + width * width // 4
            before = width
    assert len(kernels) == 1 + 33 * 3 + 4 and sum(np.prod(shape) for shape in kernels) == expected
    assert not any(name.endswith("conv1/bias") for name in shapes)
    assert sum(name.endswith("scale") for name in shapes) == 1 + 33 * 3


def test_parameters_of_the_papers_detector():
    shapes = flatten(jax.eval_shape(detector_of(DetectorConfig()).init, jax.random.key(0))["params"])
    shapes = {name: array.shape for name, array in shapes.items()}
    assert shapes["proposal_head/conv/kernel"] == (3, 3, 3072, 512)
    assert shapes["proposal_head/logits/kernel"] == (1, 1, 512, 42)
    assert shapes["proposal_head/deltas/kernel"] == (1, 1, 512, 84)
    assert shapes["focus_head/conv1/kernel"] == (3, 3, 3072, 256)
    assert shapes["focus_head/logits/kernel"] == (1, 1, 256, 2)
    assert shapes["box_head/reduce/kernel"] == (1, 1, 3072, 256)
    assert shapes["box_head/fc1/kernel"] == (7 * 7 * 256, 1024)
    assert shapes["box_head/logits/kernel"] == (1024, 81) and shapes["box_head/deltas/kernel"] == (1024, 4)


@pytest.mark.parametrize("dilation", [1, 2])
def test_stage_4_is_dilated(dilation):
    """Where one pixel changes conv4's cells, conv5's change `dilation` cells further out, at the same stride."""
    network = ResNet(BackboneConfig(units=(1, 1, 1, 1), channels=(8, 32, 32, 32, 32), dilation=dilation))
    size = np.array([[16, 16 * 12]] * 2)
    images = np.tile(np.random.default_rng(0).standard_normal((1, 16, 16 * 12, 3)).astype(np.float32), (2, 1, 1, 1))
    images[1, 8, 100] += 5
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, size, False))
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda array: random.uniform(0.1, 0.2, array.shape).astype(np.float32), shapes)
    features = jax.jit(network.apply, static_argnums=3)(variables, images, size, False)
    changed = np.abs(features[0] - features[1])[0] > 1e-4
    conv4, conv5 = (np.flatnonzero(part.any(axis=1)) for part in (changed[:, :32], changed[:, 32:]))
    assert conv5[0] == conv4[0] - dilation and conv5[-1] == conv4[-1] + dilation


@pytest.mark.parametrize("size", [(32, 48), (25, 33), (7, 3), (31, 17)])
def test_maps_do_not_depend_on_the_bucket(tiny_detector, tiny_variables, chip_batch, size):
    chip = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)
    small = _maps(tiny_detector, tiny_variables, chip_batch([chip], 32, 48))
    large = _maps(tiny_detector, tiny_variables, chip_batch([chip], 64, 80))
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    for name in small._fields:
        one, other = (getattr(maps, name)[:, :rows, :columns] for maps in (small, large))
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=name)
    assert np.abs(small.features).max() > 0.1
    assert (large.features[:, rows:] == 0).all() and (large.features[:, :, columns:] == 0).all()


def test_pixels_outside_the_true_size_do_not_count(tiny_detector, tiny_variables, chip_batch):
    chip = np.random.default_rng(0).integers(0, 256, (25, 33, 3), np.uint8)
    clean = chip_batch([chip], 32, 48)
    dirty = clean.pixels.copy()
    dirty[:, 25:], dirty[:, :, 33:] = 255, 200
    one, other = (_maps(tiny_detector, tiny_variables, clean._replace(pixels=p)) for p in (clean.pixels, dirty))
    np.testing.assert_array_equal(one.features, other.features)


def test_training_updates_statistics_and_evaluation_does_not(tiny_detector, tiny_variables, chip_batch):
    chips = chip_batch([np.full((32, 48, 3), 90, np.uint8)], 32, 48)
    apply = jax.jit(Network(tiny_detector).apply, static_argnums=3, static_argnames=("method", "mutable"))
    _, train = apply(tiny_variables, chips.pixels, chips.size, True, method="maps", mutable="batch_stats")
    before, after = flatten(tiny_variables["batch_stats"]), flatten(train["batch_stats"])
    assert before.keys() == after.keys()
    mean = (90 - np.array(tiny_detector.pixel_mean)) / np.array(tiny_detector.pixel_deviation)
    name = "backbone/bn_data/mean"
    np.testing.assert_allclose(after[name], 0.9 * before[name] + 0.1 * mean, rtol=1e-4)


_forward = jax.jit(forward, static_argnums=0)


def _maps(config, variables, chips):
    return jax.device_get(_forward(config, variables, chips))
