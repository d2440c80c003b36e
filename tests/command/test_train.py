"""train.py from the command line: a whole run of a few steps, going on with it, and errors in one line."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.command import stage, train
from autofocus_jax.command.main import main
from autofocus_jax.config.load import load_config, to_dict
from autofocus_jax.inference.stored import read_weights
from autofocus_jax.ledger import LOCK, locked
from autofocus_jax.training import pipeline
from autofocus_jax.training.optimizer import schedule
from autofocus_jax.weights import checkpoint, safetensors
from autofocus_jax.weights.variables import load_variables, trained_with


def train_main(words):
    return main(["train", *words])


ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("quick_compilation")


def words(folder, workdir, *more):
    given = ["--config", folder / "config.py", "--workdir", workdir, *more]
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The workdir of a whole run of four steps, with its validation."""
    workdir = tmp_path_factory.mktemp("run") / "a" / "b"
    assert train_main(words(folder, workdir)) == 0
    return workdir


def log(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


def test_a_whole_run(folder, trained):
    config = load_config(folder / "config.py")
    assert trained_with(trained) == to_dict(config)
    assert read_weights(trained)[2] == ("cat", "dog")
    assert (trained / "curves.png").is_file()
    *entries, validation = log(trained)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    for entry in entries:
        assert set(entry) == {
            "step", "loss", "proposal_class", "proposal_box", "box_class", "box", "focus", "gradient_norm",
            "chips_per_second", "data_wait", "learning_rate",
        }  # fmt: skip
        assert all(np.isfinite(value) for value in entry.values()) and 0 <= entry["data_wait"] <= 1
        assert entry["learning_rate"] == pytest.approx(float(schedule(config.training)(entry["step"] - 1)))
    assert validation["step"] == 4 and validation["AP"] is None and validation["side"] > 0  # no object to find
    assert list((trained / "panels").glob("*.png"))
    variables, metadata = safetensors.load(trained / "model.safetensors")
    assert metadata["steps"] == 4 and metadata["config"] == to_dict(config)
    newest = load_variables(trained, config)
    for name, array in safetensors.flatten(newest).items():
        np.testing.assert_array_equal(array, safetensors.flatten(variables)[name])


def test_the_same_command_again_has_nothing_left_to_do(folder, trained, capsys):
    before = (trained / "model.safetensors").read_bytes()
    assert train_main(words(folder, trained, "--validation-images", "0")) == 0
    assert "going on from step 4" in capsys.readouterr().out and len(log(trained)) == 5
    variables, _ = safetensors.load(trained / "model.safetensors")
    (trained / "model.safetensors").write_bytes(before)
    for name, array in safetensors.flatten(safetensors.load(trained / "model.safetensors")[0]).items():
        np.testing.assert_array_equal(array, safetensors.flatten(variables)[name])


def test_validations_during_the_training(folder, tmp_path, capsys):
    """Each is logged; the checkpoint of the best is named, kept, and can be evaluated."""
    more = "--training.validate-every", 1, "--training.checkpoints-kept", 1, "--training.checkpoint-every", 9
    given = words(folder, tmp_path, *more, "--validation-split", "train", "--validation-images", 2)
    assert train_main(given) == 0
    out = capsys.readouterr().out
    validations = {entry["step"]: entry["AP"] for entry in log(tmp_path) if "AP" in entry}
    assert sorted(validations) == [1, 2, 3, 4] and all(f"step {n}: autofocus on 2 validation" in out for n in (1, 4))
    best = max(validations, key=lambda step: (validations[step], step))
    assert set(checkpoint.steps(tmp_path)) == {best, 4}
    load_variables(tmp_path / "checkpoints" / str(best), load_config(folder / "config.py"))


def test_starting_from_a_file(folder, trained, tmp_path, capsys, monkeypatch):
    """The run begins with the file's arrays, remembers the file, and goes on without reading it again."""
    file, workdir, begun = tmp_path / "start.safetensors", tmp_path / "run", []
    shutil.copy(trained / "model.safetensors", file)

    def run(step, state, *rest, real=stage.loop.run):
        begun.append(safetensors.flatten(jax.tree.map(np.array, train.variables(state))))
        return real(step, state, *rest)

    monkeypatch.setattr(stage.loop, "run", run)
    more = ["--initial", file, "--validation-images", 0]
    assert train_main(words(folder, workdir, *more)) == 0
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
    assert read_weights(workdir)[0].name == load_config(folder / "config.py").name

    assert train_main(words(folder, workdir, *more)) == 0
    out = capsys.readouterr().out
    assert "going on from step 4" in out and "is not read again" in out and "starting from" not in out
    assert all(np.array_equal(begun[1][name], after[name]) for name in after)
    assert train_main(words(folder, workdir, "--validation-images", 0)) == 0
    assert "going on from step 4" in capsys.readouterr().out
    assert json.loads((workdir / "config.json").read_text())["initial"] == kept

    before = (workdir / "config.json").read_bytes()
    shutil.copy(workdir / "model.safetensors", file)
    for where, words_of_it in ((workdir, f"started from {file}"), (trained, "started from random weights")):
        assert train_main(words(folder, where, *more)) == 1
        message = capsys.readouterr().err
        assert words_of_it in message and "leave --initial out" in message and message.count("\n") == 1
    assert (workdir / "config.json").read_bytes() == before and len(begun) == 3


def test_shipped_weights_to_start_from(folder, tmp_path, capsys):
    """They are of another network than this one, so that the error tells that the file was found."""
    assert train_main(words(folder, tmp_path / "run", "--initial", "demo", "--validation-images", 0)) == 1
    message = capsys.readouterr().err
    assert "shipped/demo.safetensors" in message and "do not fit the detector" in message


def test_a_file_that_cannot_be_started_from(folder, trained, tmp_path, capsys):
    workdir = tmp_path / "run"
    for file, more, says in (
        (tmp_path / "none.safetensors", (), "none.safetensors cannot be read"),
        (trained / "config.json", (), "damaged or no safetensors file"),
        (trained, (), "cannot be read"),
        (trained / "model.safetensors", ("--detector.rpn-channels", 8), "of another shape: params/proposal_head"),
    ):
        assert train_main(words(folder, workdir, "--initial", file, *more)) == 1
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1 and not workdir.exists()


def test_another_config_in_the_same_workdir(folder, trained, capsys):
    before = (trained / "config.json").read_bytes()
    assert train_main(words(folder, trained, "--training.learning-rate", "0.5")) == 1
    message = capsys.readouterr().err
    assert "training.learning_rate: 0.015 -> 0.5" in message and "use another --workdir" in message
    assert "--accept-changes" in message
    assert message.count("\n") == 1 and (trained / "config.json").read_bytes() == before


def test_more_steps_for_a_finished_training(folder, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    longer = words(folder, tmp_path / "run", "--training.steps", 6, "--validation-images", 0)
    assert train_main(longer) == 1
    assert "training.steps: 4 -> 6" in capsys.readouterr().err
    assert train_main([*longer, "--accept-changes"]) == 0
    out = capsys.readouterr().out
    assert "changed: training.steps: 4 -> 6" in out and "going on from step 4" in out
    assert [entry["step"] for entry in log(tmp_path / "run") if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["steps"] == 6
    assert train_main(longer) == 0


@pytest.fixture
def data(folder, trained, tmp_path):
    """A copy of the data and of the finished run, whose config names the copy; returns the training annotations."""
    shutil.copytree(folder, tmp_path / "data")
    shutil.copytree(trained, tmp_path / "run")
    text = (folder / "config.py").read_text().replace(str(folder), str(tmp_path / "data"))
    (tmp_path / "data" / "config.py").write_text(text)
    text = (tmp_path / "run" / "config.json").read_text().replace(str(folder), str(tmp_path / "data"))
    (tmp_path / "run" / "config.json").write_text(text)
    return tmp_path / "data" / "annotations" / "instances_train.json"


@pytest.mark.parametrize("change", ["box", "label", "category", "name", "image"])
def test_other_data_in_the_same_workdir(data, tmp_path, change, capsys):
    """Boxes were corrected, a category renamed or an image added while a training was stopped."""
    given = words(tmp_path / "data", tmp_path / "run", "--validation-images", 0)
    assert train_main(given) == 0
    content = json.loads(data.read_text())
    if change == "box":
        content["annotations"][1]["bbox"] = [1, 1, 5, 5]
    elif change == "label":
        content["annotations"][1]["category_id"] = 2 if content["annotations"][1]["category_id"] == 1 else 1
    elif change == "category":
        content["categories"][1]["name"] = "cow"
    elif change == "name":
        (data.parents[1] / "train" / "1.png").rename(data.parents[1] / "train" / "9.png")
        content["images"][0]["file_name"] = "9.png"
    else:
        content["images"].append({"id": 9, "file_name": "1.png", "height": 60, "width": 90})
    data.write_text(json.dumps(content))
    before = (tmp_path / "run" / "config.json").read_bytes()
    capsys.readouterr()
    assert train_main(given) == 1
    message = capsys.readouterr().err
    which = {"box": "boxes", "label": "boxes", "category": "categories: ['cat', 'dog'] -> ['cat', 'cow']",
             "name": "names and sizes", "image": "images: 4 -> 5"}[change]  # fmt: skip
    assert f"trained on.{which}" in message and "--accept-changes" in message and message.count("\n") == 1
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert train_main([*given, "--accept-changes"]) == 0
    assert f"changed: trained on.{which}" in capsys.readouterr().out
    assert train_main(given) == 0


def test_a_workdir_of_an_older_version_goes_on(data, tmp_path):
    """It does not say what it was trained on; from now on it does."""
    file = tmp_path / "run" / "config.json"
    settings = json.loads(file.read_text())
    del settings["ledger"], settings["trained on"]
    file.write_text(json.dumps(settings))
    assert train_main(words(tmp_path / "data", tmp_path / "run", "--validation-images", 0)) == 0
    assert json.loads(file.read_text())["trained on"]["images"] == 4


def test_two_trainings_in_one_workdir(folder, trained, tmp_path, capsys):
    """The second one is refused before it touches anything, also a checkpoint that the first one is writing."""
    shutil.copytree(trained, tmp_path / "run")
    writing = tmp_path / "run" / "checkpoints" / "5.orbax-checkpoint-tmp"
    writing.mkdir()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    given = words(folder, tmp_path / "run", "--training.steps", 5, "--accept-changes", "--validation-images", 0)
    with locked(tmp_path / "run"):
        assert train_main(given) == 1
    message = capsys.readouterr().err
    assert f"run is in use by process {os.getpid()} on " in message and message.count("\n") == 1
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    lock = tmp_path / "run" / LOCK
    assert before | {lock: None} == after | {lock: None} and writing.is_dir()
    assert train_main(given) == 0 and not writing.exists()


def test_settings_that_are_newer_than_the_workdir(folder, trained, tmp_path, capsys):
    """They had their defaults, so what is the default now is no change; anything else is."""
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    settings = json.loads(file.read_text())
    del settings["metric"], settings["training"]["ema"], settings["detector"]["backbone"]["kind"]
    del settings["scales"][0]["chips"]["dilation"]  # has no default, so nothing is known of it
    file.write_text(json.dumps(settings))
    given = words(folder, tmp_path / "run", "--validation-images", 0)
    assert train_main(given) == 1
    message = capsys.readouterr().err
    assert "scales.0.chips.dilation" in message and "metric" not in message and "kind" not in message
    settings["scales"][0]["chips"]["dilation"] = 1
    file.write_text(json.dumps(settings))
    assert train_main(given) == 0
    assert trained_with(tmp_path / "run") == to_dict(load_config(folder / "config.py"))
    settings["training"].pop("frozen_stages", None)
    file.write_text(json.dumps(settings))
    assert train_main([*given, "--training.frozen-stages", "1"]) == 1
    assert "training.frozen_stages: 0 -> 1" in capsys.readouterr().err


def test_sigterm_in_a_validation(folder, tmp_path, capsys, monkeypatch):
    """It is left undone, what was trained is saved, and the same command makes up for it."""
    given, real = words(folder, tmp_path / "run"), train.validation.validator

    def validator(*arguments):
        def validate(variables, progress):
            if interrupting:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*arguments)(variables, progress)

        return validate

    monkeypatch.setattr(train.validation, "validator", validator)
    interrupting = True
    assert train_main(given) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 4; everything is saved" in capsys.readouterr().err
    assert checkpoint.steps(tmp_path / "run")[-1] == 4 and not (tmp_path / "run" / "model.safetensors").exists()
    interrupting = False
    assert train_main(given) == 0
    assert "autofocus on" in capsys.readouterr().out and (tmp_path / "run" / "model.safetensors").exists()


def test_memory_that_is_used_up_is_one_line(folder, tmp_path, capsys, monkeypatch):
    def make_step(config, transform, over):
        def step(state, batch):
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

        return step

    monkeypatch.setattr(train, "make_step", make_step)
    assert train_main(words(folder, tmp_path / "run")) == 1
    message = capsys.readouterr().err
    assert "autofocus train: the memory is used up; make smaller" in message and message.count("\n") == 1


def test_a_batch_that_does_not_split_over_the_devices(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train.parallel, "mesh", lambda: SimpleNamespace(size=3))
    assert train_main(words(folder, tmp_path / "run")) == 1
    message = capsys.readouterr().err
    assert "training.batch 2 does not split over 3 devices" in message and message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_negative_chips(folder, tmp_path, capsys):
    """One command trains the region proposals, writes the file of proposals, and trains the detector with them."""
    more = "--training.negative-chips", 2, "--training.negative-proposals", 0, 0, "--training.proposals-steps", 2
    given = words(folder, tmp_path, *more, "--validation-images", 0)
    assert train_main([*given, "--stage", "detector"]) == 1
    message = capsys.readouterr().err
    assert "proposals.npz do not exist; run the stage of the proposals first" in message and message.count("\n") == 1
    assert train_main([*given, "--stage", "proposals"]) == 0
    assert (tmp_path / "proposals.npz").exists() and checkpoint.steps(tmp_path) == []
    assert checkpoint.steps(tmp_path / "proposals")[-1] == 2 and "step 2/2" in capsys.readouterr().out
    assert train_main(given) == 0
    out = capsys.readouterr().out
    assert "step 2/2" not in out and "step 4/4" in out and checkpoint.steps(tmp_path)[-1] == 4


def test_divergence_is_one_line_that_names_the_batch(folder, tmp_path, monkeypatch, capsys):
    """The call in the line draws the batch that the step got."""
    got = []

    def make_step(config, transform, over):
        def step(state, batch):
            jax.debug.callback(lambda pixels: got.append(np.array(pixels)), batch.chips.pixels)
            bad = state.step == 2
            return state._replace(step=state.step + 1), {"loss": jnp.where(bad, jnp.nan, 1.0), "focus": jnp.float32(1)}

        return step

    monkeypatch.setattr(train, "make_step", make_step)
    assert train_main(words(folder, tmp_path / "run", "--training.checkpoint-every", 1)) == 1
    message = capsys.readouterr().err
    assert "the loss is nan at step 3; lower training.learning_rate" in message and message.count("\n") == 1
    assert [entry["step"] for entry in log(tmp_path / "run")] == [1, 2] and checkpoint.steps(tmp_path / "run") == [1, 2]
    assert not (tmp_path / "run" / "model.safetensors").exists()
    config = load_config(folder / "config.py")
    epoch, number = map(int, re.search(r"Position\((\d+), (\d+)\)", message).groups())
    assert f"seed {config.seed}, epoch {epoch}, number {number}" in message
    drawn = pipeline.Batches(config.data.open("train"), config, pipeline.Position(epoch, number))
    with contextlib.closing(drawn) as batches:
        expected = next(batches)
    assert any(np.array_equal(pixels, expected.chips.pixels) for pixels in got[2:3])


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
    assert train_main(words(folder, tmp_path / "run", *more)) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and says in message


def test_classes_that_are_not_the_datas_do_not_spoil_the_workdir(folder, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train_main(words(folder, workdir, "--detector.num-classes", 5)) == 1
    message = capsys.readouterr().err
    assert "num_classes is 5 but the data have 2" in message and message.count("\n") == 1
    (workdir / "log.jsonl").mkdir(parents=True)
    assert train_main(words(folder, workdir, "--seed", 3)) == 1
    message = capsys.readouterr().err
    assert "log.jsonl cannot be used" in message and message.count("\n") == 1
    (workdir / "log.jsonl").rmdir()
    assert train_main(words(folder, workdir, "--training.steps", 1, "--validation-images", 0)) == 0


def test_validation_images_are_looked_at_before_training(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "instances_val.json").write_text("no JSON")
    given = words(folder, tmp_path / "run", "--data.root", tmp_path / "data")
    assert train_main(given) == 1
    assert "instances_val.json are not JSON" in capsys.readouterr().err
    assert train_main([*given, "--validation-images", "-1"]) == 1
    assert "--validation-images -1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_validation_images_with_classes_in_another_order(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "data")
    annotations = tmp_path / "data" / "annotations" / "instances_val.json"
    content = json.loads(annotations.read_text())
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], reversed(names), strict=True):
        category["name"] = name
    annotations.write_text(json.dumps(content))
    assert train_main(words(folder, tmp_path / "run", "--data.root", tmp_path / "data")) == 1
    message = capsys.readouterr().err
    assert f"category 1 is {names[1]!r} in split 'val' and {names[0]!r} in the training" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ['{"det', "[]", '{"detector": null}'])
def test_a_damaged_config_json_is_one_line(folder, trained, tmp_path, content, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    assert train_main(words(folder, tmp_path / "run")) == 1
    message = capsys.readouterr().err
    assert "config.json" in message and message.count("\n") == 1


def test_a_config_that_does_not_exist(tmp_path, capsys):
    assert train_main(["--config", str(tmp_path / "none.py")]) == 1
    message = capsys.readouterr().err
    assert "none.py does not exist" in message and message.count("\n") == 1


def test_no_images_to_train_on(folder, tmp_path, capsys):
    """Would otherwise look for chips for ever."""
    shutil.copytree(folder, tmp_path / "data")
    annotations = tmp_path / "data" / "annotations"
    shutil.copy(annotations / "instances_empty.json", annotations / "instances_train.json")
    assert train_main(words(folder, tmp_path / "run", "--data.root", tmp_path / "data")) == 1
    message = capsys.readouterr().err
    assert "no image" in message and message.count("\n") == 1
