"""What a training takes from a file of ours, and what it says of the rest."""

import dataclasses

import jax
import numpy as np
import pytest

from autofocus_jax.config.load import to_dict
from autofocus_jax.detector.folding import fold
from autofocus_jax.structures import AutoFocusError
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, variables
from autofocus_jax.weights import initial, safetensors
from autofocus_jax.weights.safetensors import flatten

pytestmark = pytest.mark.usefixtures("quick_compilation")


def other(config, **changes):
    return dataclasses.replace(config, detector=dataclasses.replace(config.detector, **changes))


def with_backbone(config, **changes):
    return other(config, backbone=dataclasses.replace(config.detector.backbone, **changes))


@pytest.fixture(scope="module")
def save(draw_variables, tmp_path_factory):
    """save(config, metadata, keep) -> path of a file of random weights, with the arrays whose names `keep` wants."""

    def make(config, metadata=None, keep=lambda name: True, seed=9):
        path = tmp_path_factory.mktemp("initial") / "w.safetensors"
        arrays = {name: array for name, array in flatten(draw_variables(config.detector, seed)).items() if keep(name)}
        safetensors.save(path, safetensors.unflatten(arrays), to_dict(config), metadata)
        return path

    return make


def start(config, found):
    """The flat variables at step 0 of a training, as the seed draws them and with what was found in their places."""
    plain = []

    def put(drawn):
        plain.append(jax.device_get(drawn))
        return initial.put(found, drawn)

    state = initial_state(config, optimizer(config), put)
    assert int(state.step) == 0 and all(not np.any(array) for array in jax.tree.leaves(state.opt_state))
    assert jax.tree.structure(variables(state)) == jax.tree.structure(plain[0])
    return [flatten(tree) for tree in (plain[0], jax.device_get(variables(state)))]


def equal(one, two, names):
    return all(np.array_equal(one[name], two[name]) for name in names)


def test_a_whole_detector(tiny_config, save):
    path = save(tiny_config)
    found = initial.read(path, tiny_config)
    stored = flatten(safetensors.load(path)[0])
    plain, begun = start(tiny_config, found)
    assert begun.keys() == plain.keys() == stored.keys() and equal(begun, stored, stored)
    assert not equal(plain, stored, stored)
    lines = list(initial.summary(found, path))
    assert f"{len(stored)} of the detector's {len(stored)} arrays taken" in lines[0] and len(lines) == 2


def test_a_backbone_leaves_the_heads_as_the_seed_draws_them(tiny_config, save):
    """The file of a converted backbone holds heads, and offsets of deformable layers, that the conversion drew."""
    config = with_backbone(tiny_config, deformable_groups=2)
    untrained = ["backbone/stage4", "box_head", "focus_head", "proposal_head"]
    path = save(config, {"kind": "MXNet, SNIPER's backbone", "untrained": untrained})
    found = initial.read(path, config)
    stored = flatten(safetensors.load(path)[0])
    plain, begun = start(config, found)
    random = [name for name in stored if "backbone" not in name or "offset" in name]
    assert found.untrained == [name for name in plain if name in random] and not found.absent
    assert equal(begun, plain, random) and equal(begun, stored, stored.keys() - set(random))
    assert "params/backbone/stage4_unit1/conv2/kernel" in found.arrays
    text = "\n".join(initial.summary(found, path))
    assert "MXNet, SNIPER's backbone" in text and "random, and untrained in the file too: backbone/stage4 (2)" in text


def test_parts_that_only_one_of_both_has(tiny_config, save):
    path = save(with_backbone(tiny_config, units=(1, 1, 3, 1)), keep=lambda name: "focus_head" not in name)
    found = initial.read(path, with_backbone(tiny_config, units=(2, 1, 1, 1)))
    assert {name.split("/")[2] for name in found.unused} == {"stage3_unit2", "stage3_unit3"}
    assert {name.split("/")[1] for name in found.absent} == {"focus_head", "backbone"}
    assert {name.split("/")[2] for name in found.absent if "backbone" in name} == {"stage1_unit2"}
    (note,) = found.notes
    assert note == "backbone.units: [1, 1, 3, 1] -> [2, 1, 1, 1]"
    text = "\n".join(initial.summary(found, "FILE"))
    assert "random, not in the file: backbone/stage1 (" in text and "focus_head (6)" in text
    assert "in the file and not used: backbone/stage3 (" in text and f"detector.{note}" in text


def test_another_number_of_classes(tiny_config, save):
    path = save(other(tiny_config, num_classes=7))
    found = initial.read(path, tiny_config)
    logits = {f"params/box_head/logits/{leaf}" for leaf in ("kernel", "bias")}
    assert set(found.classes) == logits and "params/box_head/deltas/kernel" in found.arrays
    plain, begun = start(tiny_config, found)
    stored = flatten(safetensors.load(path)[0])
    assert equal(begun, plain, logits) and equal(begun, stored, stored.keys() - logits)
    assert "another number of classes in the file: box_head (2)" in "\n".join(initial.summary(found, path))


def test_settings_that_matter_are_noted_for_what_is_taken(tiny_config, save):
    changes = {"pixel_mean": (0.0, 0.0, 0.0), "box_deviations": (1.0, 1.0, 1.0, 1.0)}
    whole, alone = (save(other(tiny_config, **changes), keep=keep) for keep in (bool, lambda name: "backbone" in name))
    assert [note.split(":")[0] for note in initial.read(whole, tiny_config).notes] == ["box_deviations", "pixel_mean"]
    assert [note.split(":")[0] for note in initial.read(alone, tiny_config).notes] == ["pixel_mean"]


def test_what_is_refused(tiny_config, save, tmp_path, draw_variables):
    def refused(words, path, config=tiny_config):
        with pytest.raises(AutoFocusError, match=words) as error:
            initial.read(path, config)
        assert "\n" not in str(error.value) and str(path) in str(error.value)

    wide = save(with_backbone(tiny_config, channels=(8, 16, 16, 16, 32)))
    refused(r"arrays of another shape: .*stage4_unit1.*\) instead of \(", wide)
    one_anchor = other(tiny_config, anchors=dataclasses.replace(tiny_config.detector.anchors, ratios=(1.0,)))
    refused(r"4 arrays of another shape: params/proposal_head/.*anchors.ratios: \[0.5, 1.0, 2.0\] -> \[1.0\]",
            save(tiny_config), one_anchor)  # fmt: skip
    data = save(tiny_config, keep=lambda name: "bn_data" in name)
    refused("none of their 3 trained arrays", data, with_backbone(tiny_config, kind="v1"))
    heads = save(tiny_config, {"untrained": ["box_head"]}, lambda name: "box_head" in name)
    refused("none of their .* trained arrays", heads)
    refused("of kind 'v2', the config's of kind 'v1'", save(tiny_config), with_backbone(tiny_config, kind="v1"))
    detector, folded = fold(tiny_config.detector, draw_variables(tiny_config.detector))
    safetensors.save(tmp_path / "folded", folded, to_dict(dataclasses.replace(tiny_config, detector=detector)))
    refused("batch norms are folded", tmp_path / "folded")
    refused("do not exist", tmp_path / "none")
    refused("are a folder; give a .safetensors file", tmp_path)
    (tmp_path / "text").write_text("hello")
    refused("damaged", tmp_path / "text")
