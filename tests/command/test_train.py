"""train.py from the command line: a whole run of a few steps, going on with it, and errors in one line."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from autofocus_jax import checkpoint
from autofocus_jax.command import train
from autofocus_jax.config_file import load_config, to_dict
from autofocus_jax.training.loop import LOSSES
from autofocus_jax.weights import safetensors

ROOT = Path(__file__).parents[2]

CONFIG = """
import math
from autofocus_jax.config import *
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import *

def get_config():
    return Config(
        name="tiny", data=CocoSource("FOLDER"),
        scales=(
            Scale(32, 48, ValidRange(20, math.inf), ChipRule(0.3, 1, 16)),
            Scale(64, 96, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(5, 64, 90), buckets=(Bucket(64, 96, 2),),
        detector=DetectorConfig(
            num_classes=2, backbone=BackboneConfig(units=(1, 1, 1, 1), channels=(4, 8, 8, 8, 8)),
            anchors=AnchorConfig((1.0,), (16, 32)), rpn_channels=4, proposals_before_nms=16, proposals=4,
            roi_channels=4, head_channels=8, focus_channels=4,
        ),
        training=TrainingConfig(
            steps=4, batch=2, chip=48, chip_stride=8, ranges=(ValidRange(20, math.inf), ValidRange(0, 50)), max_boxes=4,
            rpn_batch=8, roi_batch=8, log_every=1, checkpoint_every=2, warmup_steps=2, drop_at=None,
        ),
    )
"""


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory, quick_compilation):
    """Every run of train.py compiles the same programs; keep them on disk between those of this module."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: jax.config.values[name] for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCO folder of four images for training, one without an object for validation, and a config of it."""
    root = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(0)
    (root / "annotations").mkdir()
    for split, count in (("train", 4), ("val", 1), ("empty", 0)):
        (root / split).mkdir()
        images = [{"id": n, "file_name": f"{n}.png", "height": 60, "width": 90} for n in range(1, count + 1)]
        for image in images:
            cv2.imwrite(str(root / split / image["file_name"]), random.integers(0, 255, (60, 90, 3), np.uint8))
        annotations = [
            {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [10, 10, 10 * n, 30], "area": 300 * n}
            for n in range(1, count + 1) if split == "train"
        ]  # fmt: skip
        content = {
            "images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }  # fmt: skip
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    (root / "config.py").write_text(CONFIG.replace("FOLDER", str(root)))
    return root


def words(folder, workdir, *more):
    given = ["--config", folder / "config.py", "--workdir", workdir, *more]
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The workdir of a whole run of four steps, with its validation."""
    workdir = tmp_path_factory.mktemp("run") / "a" / "b"
    assert train.main(words(folder, workdir)) == 0
    return workdir


def log(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


def test_a_whole_run(folder, trained):
    config = load_config(folder / "config.py")
    assert json.loads((trained / "config.json").read_text()) == to_dict(config)
    entries = log(trained)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    for entry in entries:
        assert set(entry) == {
            "step", "loss", "proposal_class", "proposal_box", "box_class", "box", "focus", "gradient_norm",
            "chips_per_second", "learning_rate", "seconds",
        }  # fmt: skip
        assert all(np.isfinite(value) for value in entry.values())
    variables, metadata = safetensors.load(trained / "model.safetensors")
    assert metadata["steps"] == 4 and metadata["config"] == to_dict(config)
    newest = checkpoint.load_variables(trained, config)
    for name, array in safetensors.flatten(newest).items():
        np.testing.assert_array_equal(array, safetensors.flatten(variables)[name])


def test_the_same_command_again_has_nothing_left_to_do(folder, trained, capsys):
    before = (trained / "model.safetensors").read_bytes()
    assert train.main(words(folder, trained, "--validation-images", "0")) == 0
    assert "going on from step 4" in capsys.readouterr().out and len(log(trained)) == 4
    variables, _ = safetensors.load(trained / "model.safetensors")
    (trained / "model.safetensors").write_bytes(before)
    for name, array in safetensors.flatten(safetensors.load(trained / "model.safetensors")[0]).items():
        np.testing.assert_array_equal(array, safetensors.flatten(variables)[name])


def test_going_on_gives_what_one_run_gives(folder, trained, tmp_path, capsys):
    """As if the run had been killed after step 2."""
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    assert train.main(words(folder, tmp_path / "run", "--validation-images", "0")) == 0
    assert "going on from step 2" in capsys.readouterr().out
    assert [entry["step"] for entry in log(tmp_path / "run")] == [1, 2, 3, 4, 3, 4]
    files = (folder / "model.safetensors" for folder in (trained, tmp_path / "run"))
    one, other = (safetensors.flatten(safetensors.load(file)[0]) for file in files)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5, err_msg=name)


def test_starting_from_a_file(folder, trained, tmp_path, capsys, monkeypatch):
    """The run begins with the file's arrays, remembers the file, and goes on without reading it again."""
    file, workdir, begun = tmp_path / "start.safetensors", tmp_path / "run", []
    shutil.copy(trained / "model.safetensors", file)

    def run(step, state, *rest, real=train.loop.run):
        begun.append(safetensors.flatten(jax.tree.map(np.array, train.variables(state))))
        return real(step, state, *rest)

    monkeypatch.setattr(train.loop, "run", run)
    more = ["--initial", file, "--validation-images", 0]
    assert train.main(words(folder, workdir, *more)) == 0
    out = capsys.readouterr().out
    stored = safetensors.flatten(safetensors.load(file)[0])
    assert f"starting from {file}" in out and f"{len(stored)} of the detector's {len(stored)} arrays taken" in out
    assert "is not read again" not in out and begun[0].keys() == stored.keys()
    assert all(np.array_equal(begun[0][name], stored[name]) for name in stored)
    after, metadata = safetensors.load(workdir / "model.safetensors")
    after = safetensors.flatten(after)
    assert not np.array_equal(after["params/backbone/conv0/kernel"], stored["params/backbone/conv0/kernel"])
    kept = json.loads((workdir / "config.json").read_text())["initial"]
    assert kept == metadata["initial"]
    assert kept == {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}

    assert train.main(words(folder, workdir, *more)) == 0
    out = capsys.readouterr().out
    assert "going on from step 4" in out and "is not read again" in out and "starting from" not in out
    assert all(np.array_equal(begun[1][name], after[name]) for name in after)
    assert train.main(words(folder, workdir, "--validation-images", 0)) == 0
    assert "going on from step 4" in capsys.readouterr().out
    assert json.loads((workdir / "config.json").read_text())["initial"] == kept

    before = (workdir / "config.json").read_bytes()
    shutil.copy(workdir / "model.safetensors", file)
    for where, words_of_it in ((workdir, f"started from {file}"), (trained, "started from random weights")):
        assert train.main(words(folder, where, *more)) == 1
        message = capsys.readouterr().err
        assert words_of_it in message and "leave --initial out" in message and message.count("\n") == 1
    assert (workdir / "config.json").read_bytes() == before and len(begun) == 3


def test_a_file_that_cannot_be_started_from(folder, trained, tmp_path, capsys):
    workdir = tmp_path / "run"
    for file, more, says in (
        (tmp_path / "none.safetensors", (), "none.safetensors cannot be read"),
        (trained / "config.json", (), "damaged or no safetensors file"),
        (trained, (), "cannot be read"),
        (trained / "model.safetensors", ("--detector.rpn-channels", 8), "of another shape: params/proposal_head"),
    ):
        assert train.main(words(folder, workdir, "--initial", file, *more)) == 1
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1 and not workdir.exists()


def test_another_config_in_the_same_workdir(folder, trained, capsys):
    before = (trained / "config.json").read_bytes()
    assert train.main(words(folder, trained, "--training.learning-rate", "0.5")) == 1
    message = capsys.readouterr().err
    assert "training.learning_rate: 0.015 -> 0.5" in message and "use another --workdir" in message
    assert message.count("\n") == 1 and (trained / "config.json").read_bytes() == before


def test_divergence_is_one_line(folder, tmp_path, monkeypatch, capsys):
    def make_step(config, transform):
        return lambda state, batch: (state._replace(step=state.step + 1), dict.fromkeys(("loss", *LOSSES), jnp.nan))

    monkeypatch.setattr(train, "make_step", make_step)
    assert train.main(words(folder, tmp_path / "run")) == 1
    message = capsys.readouterr().err
    assert "the loss is nan at step 1; lower training.learning_rate" in message and message.count("\n") == 1
    assert log(tmp_path / "run") == [] and not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--training.stepz", "3"], "did you mean --training.steps"),
        (["--training.batch", "many"], "--training.batch"),
        (["--training.chip", "50"], "must be a multiple of 16"),
        (["--data.root", "/nowhere"], "/nowhere"),
        (["--workdir", str(ROOT / "LICENSE" / "out")], "LICENSE"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(folder, tmp_path, more, says, capsys):
    assert train.main(words(folder, tmp_path / "run", *more)) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and says in message


def test_classes_that_are_not_the_datas_do_not_spoil_the_workdir(folder, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train.main(words(folder, workdir, "--detector.num-classes", 5)) == 1
    message = capsys.readouterr().err
    assert "num_classes is 5 but the data have 2" in message and message.count("\n") == 1
    (workdir / "log.jsonl").mkdir(parents=True)
    assert train.main(words(folder, workdir, "--seed", 3)) == 1
    message = capsys.readouterr().err
    assert "log.jsonl cannot be used" in message and message.count("\n") == 1
    (workdir / "log.jsonl").rmdir()
    assert train.main(words(folder, workdir, "--training.steps", 1, "--validation-images", 0)) == 0


def test_validation_images_are_looked_at_before_training(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "instances_val.json").write_text("no JSON")
    given = words(folder, tmp_path / "run", "--data.root", tmp_path / "data")
    assert train.main(given) == 1
    assert "instances_val.json are not JSON" in capsys.readouterr().err
    assert train.main([*given, "--validation-images", "-1"]) == 1
    assert "--validation-images -1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ['{"det', "[]", '{"detector": null}'])
def test_a_damaged_config_json_is_one_line(folder, trained, tmp_path, content, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    assert train.main(words(folder, tmp_path / "run")) == 1
    message = capsys.readouterr().err
    assert "config.json" in message and message.count("\n") == 1


def test_a_config_that_does_not_exist(tmp_path, capsys):
    assert train.main(["--config", str(tmp_path / "none.py")]) == 1
    message = capsys.readouterr().err
    assert "none.py does not exist" in message and message.count("\n") == 1


def test_no_images_to_train_on(folder, tmp_path, capsys):
    """Would otherwise look for chips for ever."""
    shutil.copytree(folder, tmp_path / "data")
    annotations = tmp_path / "data" / "annotations"
    shutil.copy(annotations / "instances_empty.json", annotations / "instances_train.json")
    assert train.main(words(folder, tmp_path / "run", "--data.root", tmp_path / "data")) == 1
    message = capsys.readouterr().err
    assert "no image" in message and message.count("\n") == 1
