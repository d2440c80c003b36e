"""What holds for every detector and backbone. A new kind of either joins by its line in DETECTORS or BACKBONES."""

import dataclasses
import json
import re
import runpy
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from autofocus_jax.config import AnchorConfig, DetectorConfig
from autofocus_jax.config.load import to_dict
from autofocus_jax.config.stored import settings_from
from autofocus_jax.detector.backbone import BACKBONES
from autofocus_jax.detector.focus_network import FocusNetworkConfig
from autofocus_jax.detector.kinds import DETECTORS, detector_of
from autofocus_jax.detector.lite0 import Stage, lite
from autofocus_jax.detector.one_stage_settings import OneStageConfig
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.inference.measure import measure
from autofocus_jax.structures import ChipBatch, Detections, TrainBatch
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step
from autofocus_jax.weights import conversion, fit, safetensors, torch
from autofocus_jax.weights.safetensors import flatten
from autofocus_jax.weights.variables import load_variables

runpy.run_path(str(Path(__file__).with_name("toy_backbone.py")))  # adds "toy" to BACKBONES
# The kinds of lite0.py have sizes that no setting changes. This has every form of unit once, at strides up to 32.
THIN = (Stage(3, 2, 1, 8, 1), Stage(3, 2, 2, 8, 1), Stage(5, 2, 2, 16, 1), Stage(5, 2, 2, 8, 2))
BACKBONES["lite-thin"] = lite(THIN)

SMALL = {  # settings of a few channels for every kind of detector
    DetectorConfig: lambda tiny: tiny,
    OneStageConfig: lambda tiny: OneStageConfig(
        tiny.num_classes, tiny.backbone, pixel_deviation=tiny.pixel_deviation, anchors=AnchorConfig((1.0,), (16, 32)),
        head_channels=8, head_layers=2, focus_channels=8, candidates=64, detections=16,
    ),
    FocusNetworkConfig: lambda tiny: FocusNetworkConfig(
        tiny.num_classes, tiny.backbone, pixel_deviation=tiny.pixel_deviation, focus_channels=8
    ),
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_kind_of_detector_is_here():
    assert SMALL.keys() == DETECTORS.keys()


# Every detector on the cheapest backbone, and every backbone under the cheapest detector.
LARGE = ("lite0", "lite0-short")  # lite-thin stands for them
CASES = [(kind, "toy") for kind in DETECTORS] + [
    (OneStageConfig, name) for name in BACKBONES if name not in ("toy", *LARGE)
]


@pytest.fixture(scope="module", params=CASES, ids=lambda param: f"{param[0].__name__}-{param[1]}")
def settings(request, tiny_detector):
    kind, name = request.param
    small = SMALL[kind](tiny_detector)
    return dataclasses.replace(small, backbone=dataclasses.replace(small.backbone, kind=name))


@pytest.fixture(scope="module")
def config(settings, tiny_config):
    return dataclasses.replace(tiny_config, detector=settings)


@pytest.fixture(scope="module")
def variables(settings, draw_variables):
    return draw_variables(settings)


@pytest.fixture(scope="module")
def detect(settings, variables):
    run = jax.jit(detector_of(settings).detect)
    return lambda chips: jax.device_get(run(variables, chips))


def finds(settings):
    """Whether this kind of detector finds anything: a focus network only says where to look."""
    return not isinstance(settings, FocusNetworkConfig)


def picture(seed, height, width):
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def row_of(output, row=0):
    """All that a row of an output says, as Detections in the chip frame."""
    boxes, scores = output.boxes[row][output.valid[row]], output.scores[row][output.valid[row]]
    count, classes = scores.shape
    return Detections(boxes.repeat(classes, axis=0), scores.reshape(-1), np.tile(np.arange(classes), count))


@pytest.mark.numbers
@pytest.mark.parametrize("size", [(32, 48), (25, 33), (1, 1)])
def test_same_answer_in_any_bucket(detect, settings, chip_batch, check_same_detections, size):
    one, other = (detect(chip_batch([picture(1, *size)], *bucket)) for bucket in ((32, 48), (64, 80)))
    assert one.valid[0].any() == finds(settings)
    check_same_detections(row_of(one), row_of(other))
    np.testing.assert_allclose(one.focus[0], other.focus[0, :2, :3], atol=1e-5)
    assert not other.focus[0, 2:].any() and not other.focus[0, :, 3:].any()


def test_padding_and_other_rows_change_nothing(detect, chip_batch):
    chips = chip_batch([picture(2, 20, 30), picture(3, 32, 48)], 32, 48, batch=2)
    pixels = np.random.default_rng(4).integers(0, 256, chips.pixels.shape, np.uint8)
    pixels[0, :20, :30] = chips.pixels[0, :20, :30]
    one, other = detect(chips), detect(chips._replace(pixels=pixels))
    for field in one._fields:
        np.testing.assert_allclose(getattr(one, field)[0], getattr(other, field)[0], atol=1e-4)
    assert np.abs(one.focus[1] - other.focus[1]).max() > 1e-4  # the second chip did change


def test_answers_are_sane_and_empty_rows_are_empty(detect, settings, chip_batch):
    output = detect(chip_batch([picture(5, 25, 41)], 32, 48, batch=2))
    assert output.valid[0].any() == finds(settings) and output.focus[0].any()
    assert not output.valid[1].any() and not output.focus[1].any()
    assert all(np.isfinite(values).all() for values in output)
    boxes = output.boxes[0][output.valid[0]]
    assert (boxes >= 0).all() and (boxes <= (41, 25, 41, 25)).all() and (boxes[:, :2] <= boxes[:, 2:]).all()
    assert output.scores.shape[2] == settings.num_classes
    for probability in (output.scores, output.focus):
        assert probability.dtype == np.float32 and (probability >= 0).all() and (probability <= 1).all()


def test_prepare_changes_layers_and_not_the_answer(settings, variables, detect, chip_batch):
    before = {name: array.copy() for name, array in flatten(variables).items()}
    prepared, fewer = detector_of(settings).prepare(variables)
    assert "batch_stats" not in fewer and len(flatten(fewer)) < len(before)
    fit.strict(fewer, jax.eval_shape(prepared.init, jax.random.key(0)))
    chips = chip_batch([picture(6, 25, 33)], 32, 48)
    for one, other in zip(detect(chips), jax.device_get(jax.jit(prepared.detect)(fewer, chips))):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert all((before[name] == array).all() for name, array in flatten(variables).items())
    again, same = prepared.prepare(fewer)
    assert again is prepared and same is fewer


def test_proposals_are_of_one_class(settings, variables, chip_batch):
    detector, chips = detector_of(settings), chip_batch([], 32, 48, batch=2)
    if not finds(settings):
        assert detector.proposals is None
        return
    prepared, fewer = detector.proposals.prepare(variables)
    for proposer, of in ((detector.proposals, variables), (prepared, fewer)):
        found = jax.eval_shape(proposer.detect, of, chips)
        assert found.scores.shape == (*found.boxes.shape[:2], 1) and found.valid.shape == found.boxes.shape[:2]
    assert prepared.settings.backbone.folded and detector.proposals.names is detector.names


def test_saved_and_loaded(settings, config, variables, tmp_path):
    stored = json.loads(json.dumps(to_dict(settings)))
    stored.pop("kind", None)
    assert settings_from(type(settings), stored, "a file") == settings
    safetensors.save(tmp_path / "some.safetensors", variables, {"detector": to_dict(settings)}, {})
    loaded, given = flatten(load_variables(tmp_path / "some.safetensors", config)), flatten(variables)
    assert loaded.keys() == given.keys() and all((loaded[name] == given[name]).all() for name in given)


def test_names_are_those_of_arrays(settings, variables):
    names, known = detector_of(settings).names, flatten(variables)
    parts = {name.split("/")[1] for name in known}
    assert set(names.classes) <= known.keys() and set(names.settings.values()) <= parts
    assert all(hasattr(settings, name) for name in names.settings)
    more = dataclasses.replace(settings, num_classes=settings.num_classes + 1)
    other = fit.compare(fit.shapes(known), fit.shapes(jax.eval_shape(detector_of(more).init, jax.random.key(0)))).other
    assert other.keys() == set(names.classes)


def test_every_array_of_the_backbone_is_in_one_stage(settings, variables):
    patterns = BACKBONES[settings.backbone.kind].frozen
    parts = [sum(bool(re.fullmatch(p, name)) for p in patterns) for name in variables["params"]["backbone"]]
    used = [any(re.fullmatch(p, name) for name in variables["params"]["backbone"]) for p in patterns]
    assert set(parts) == {1} and all(used)


def test_taken_from_a_pytorch_file(config, variables):
    """The toy's; those of the ResNets and of EfficientNet-Lite0 have tests of their own."""
    if config.detector.backbone.kind != "toy":
        pytest.skip("tests/weights/test_torch.py, tests/detector/test_lite0.py")
    theirs = {}
    leaves = {"scale": "weight", "mean": "running_mean", "var": "running_var"}
    for name, array in flatten({key: tree["backbone"] for key, tree in variables.items()}).items():
        _, part, leaf = name.split("/")
        values = array.transpose(3, 2, 0, 1) if leaf == "kernel" else array
        theirs[f"features.{part[-1]}.{part[:-1]}.{leaves.get(leaf, leaf).replace('kernel', 'weight')}"] = values
    foreign = torch.convert(theirs, config.detector, "some.pth")
    assert foreign.backbone == "toy" and not foreign.unknown
    taken = conversion.fit(foreign, config, "some.pth").variables
    for name, array in flatten({key: tree["backbone"] for key, tree in variables.items()}).items():
        collection, rest = name.split("/", 1)
        found = flatten(taken)[f"{collection}/backbone/{rest}"]
        np.testing.assert_allclose(found, array + (1e-5 - 1e-3 if name.endswith("var") else 0), rtol=1e-6)


def test_evaluated(config, variables, memory_dataset, truth):
    """Compiled, and so prepared, and scored over a data set; the pyramid is the same without a chip rule."""
    if config.detector.backbone.kind != "toy":
        pytest.skip("the cheapest backbone stands for the others")
    images = [picture(seed, 64, 90) for seed in range(2)]
    dataset = memory_dataset(images, [truth([[10, 10, 40, 40]], [1]), truth([[30, 5, 60, 50]], [2])])
    detect = compile_detector(config, variables)
    for plan in (Plan.of(config), Plan.of(config).pyramid()):
        measured = measure(dataset, detect, plan)
        assert measured.cost.images == 2 and measured.cost.pixels[0] > 0 and 0 <= measured.scores.ap <= 100
    assert measured.cost.pixels[1] == measured.cost.full_pixels[1]


@pytest.fixture(scope="module")
def batch():
    """Two chips with objects, the second with a box out of range, and an empty row."""
    random = np.random.default_rng(0)
    boxes = np.tile(np.array([[4, 6, 26, 28], [20, 4, 40, 44]], np.float32), (3, 1, 1))
    labels = np.array([[1, 0], [2, 1], [0, 0]], np.int32)
    present, trainable = np.array([[1, 1], [1, 1], [0, 0]], bool), np.array([[1, 1], [1, 0], [0, 0]], bool)
    chips = ChipBatch(random.integers(0, 256, (3, 48, 48, 3), np.uint8), np.full((3, 2), 48, np.int32), present[:, 0])
    return TrainBatch(chips, boxes, labels, present, trainable, random.integers(-1, 2, (3, 3, 3)).astype(np.int8))


@pytest.mark.parametrize("stages", [1, "all"])
def test_what_is_frozen_does_not_move_and_the_rest_does(config, variables, batch, stages):
    if stages == "all" and config.detector.backbone.kind != "toy":
        pytest.skip("its arrays are each in one stage, by the test above; the cheapest backbone stands for the others")
    stages = len(BACKBONES[config.detector.backbone.kind].frozen) if stages == "all" else stages
    training = dataclasses.replace(config.training, batch=3, frozen_stages=stages)
    config = dataclasses.replace(config, training=training)
    transform = optimizer(config)
    state = initial_state(config, transform, lambda _: variables)
    before = flatten({"params": state.params, "batch_stats": state.batch_stats})
    after, info = jax.jit(make_step(config, transform))(state, batch)
    assert all(np.isfinite(value) and value >= 0 for value in jax.device_get(info).values())
    moved = set()
    for name, value in flatten({"params": after.params, "batch_stats": after.batch_stats}).items():
        assert np.isfinite(value).all(), name
        if (np.asarray(value) != np.asarray(before[name])).any():
            moved.add(name)
    frozen = {name for name in before if detector_of(config.detector).frozen(tuple(name.split("/")[1:]), stages)}
    assert bool(frozen) == (stages > 0) and not moved & frozen
    assert {name for name in before if name.endswith(("kernel", "mean"))} - frozen <= moved


def test_empty_rows_teach_nothing(config, variables, batch):
    """Their norms are frozen, since a row that is empty still counts in the batch statistics."""
    if config.detector.backbone.kind != "toy":
        pytest.skip("the cheapest backbone stands for the others")
    settings = dataclasses.replace(config.detector, frozen_norm=True)

    @partial(jax.jit, static_argnums=2)
    def gradient(params, batch, settings):
        run = partial(detector_of(settings).loss, config.training)
        function = lambda params: run({**variables, "params": params}, batch, jax.random.key(0), None)  # noqa: E731
        return jax.value_and_grad(function, has_aux=True)(params)

    (value, (parts, _)), whole = gradient(variables["params"], batch, settings)
    less = jax.tree.map(lambda values: values[:2], batch)
    (same, (others, _)), part = gradient(variables["params"], less, settings)
    assert value == pytest.approx(float(same), rel=1e-5) and value > 0 and parts.keys() == others.keys()
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(part)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    nobody = batch._replace(chips=batch.chips._replace(valid=np.zeros(3, bool)))
    (nothing, _), still = gradient(variables["params"], nobody, settings)
    assert nothing == 0 and not any(np.asarray(array).any() for array in jax.tree.leaves(still))
