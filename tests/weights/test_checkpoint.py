"""Saving and restoring through orbax, and every way to name the variables of an evaluation."""

import dataclasses
import gc
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.config import AnchorConfig
from autofocus_jax.config.load import to_dict
from autofocus_jax.ledger import LedgerError
from autofocus_jax.structures import AutoFocusError, TrainState
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.weights import checkpoint, safetensors
from autofocus_jax.weights.checkpoint import CheckpointError
from autofocus_jax.weights.variables import load_variables

SETTINGS = {"name": "a", "training": {"steps": 9}}


@pytest.fixture(scope="module")
def state(tiny_config, draw_variables):
    """make(step) -> a TrainState whose arrays differ from step to step."""
    transform = optimizer(tiny_config)

    def make(step, detector=tiny_config.detector):
        drawn = jax.tree.map(jnp.asarray, draw_variables(detector, step))
        opt_state = jax.tree.map(lambda array: array + step, transform.init(drawn["params"]))
        return TrainState(jnp.int32(step), drawn["params"], drawn["batch_stats"], opt_state, jax.random.key(40 + step))

    return make


@pytest.fixture(scope="module")
def workdir(state, tmp_path_factory):
    """A training folder that holds the states of steps 2 and 3; that of step 1 was deleted."""
    folder = tmp_path_factory.mktemp("training")
    with checkpoint.manager(folder) as checkpoints:
        for step in (1, 2, 3):
            checkpoint.save(checkpoints, state(step), (step, 10 + step), SETTINGS)
    return folder


@pytest.fixture
def copy(workdir, tmp_path):
    """A copy of the training folder, to be spoilt."""
    shutil.copytree(workdir, tmp_path / "copy")
    return tmp_path / "copy"


def reopened(folder, state):
    with checkpoint.manager(folder) as checkpoints:
        return checkpoint.restore(checkpoints, state(0))


def same(one, other):
    def plain(tree):
        leaves = jax.tree.leaves(tree)
        return [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]

    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(plain(one), plain(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def other(config, **changes):
    return dataclasses.replace(config, detector=dataclasses.replace(config.detector, **changes))


@pytest.mark.parametrize("changes", [{"roi_channels": 4}, {"anchors": AnchorConfig((1.0,), (16,))}, {"num_classes": 9}])
def test_another_config(state, workdir, tiny_config, changes):
    config = other(tiny_config, **changes)
    with pytest.raises(AutoFocusError, match="do not fit the config's detector") as error:
        load_variables(workdir, config)
    assert "\n" not in str(error.value)
    with (
        checkpoint.manager(workdir) as checkpoints,
        pytest.raises(CheckpointError, match=r"3 is not of this config.* use another workdir") as error,
    ):
        checkpoint.restore(checkpoints, state(0, config.detector))
    assert "\n" not in str(error.value)


def spoil(step, damage):
    """Damages a finished checkpoint, as a full disk or a broken copy does."""
    arrays = step / "state"
    largest = max((path for path in arrays.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if damage == "the largest file is cut":
        os.truncate(largest, largest.stat().st_size // 2)
    elif damage == "the largest file is gone":
        largest.unlink()
    elif (step / damage).is_dir():
        shutil.rmtree(step / damage)
    elif damage.startswith("cut "):
        os.truncate(step / damage.removeprefix("cut "), 40)
    else:
        (step / damage).unlink()


DAMAGES = (
    "the largest file is cut", "the largest file is gone", "state", "state/_METADATA", "cut state/_METADATA",
    "state/manifest.ocdbt", "cut state/manifest.ocdbt", "state/d", "state/ocdbt.process_0",
)  # fmt: skip


@pytest.mark.parametrize("damage", [*DAMAGES, "run", "run/metadata", "cut run/metadata"])
def test_a_damaged_checkpoint_is_passed_over(state, copy, damage, capfd):
    """The one before it counts, the damaged one is kept aside, and orbax says nothing of its own."""
    spoil(copy / "checkpoints" / "3", damage)
    (line,) = checkpoint.put_aside(copy)
    assert line.startswith("checkpoint 3 is damaged (") and "\n" not in line and str(copy / "damaged" / "3") in line
    assert (copy / "damaged" / "3").is_dir() and checkpoint.steps(copy) == [2]
    restored = reopened(copy, state)
    same(restored.state, state(2))
    assert restored.position == (2, 12)
    assert checkpoint.put_aside(copy) == []
    gc.collect()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_line_where_it_was_asked_for(copy, tiny_config, damage):
    spoil(copy / "checkpoints" / "3", damage)
    for path in (copy, copy / "checkpoints" / "3"):
        with pytest.raises(CheckpointError, match=r"checkpoints/3 is damaged.* to use the one before it") as error:
            load_variables(path, tiny_config)
        assert "\n" not in str(error.value)


def test_every_checkpoint_is_damaged(copy):
    """Then the run must not begin anew without a word."""
    for step in (2, 3):
        spoil(copy / "checkpoints" / str(step), "state/manifest.ocdbt")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read \(the newest, 3: ") as error:
        checkpoint.put_aside(copy)
    assert "\n" not in str(error.value) and checkpoint.steps(copy) == [2, 3] and not (copy / "damaged").exists()


def test_damaged_again_at_the_same_step(state, copy):
    for folder in ("3", "3-1"):
        spoil(copy / "checkpoints" / "3", "state/d")
        assert len(checkpoint.put_aside(copy)) == 1 and (copy / "damaged" / folder).is_dir()
        with checkpoint.manager(copy) as checkpoints:
            checkpoint.save(checkpoints, state(3), (0, 0), SETTINGS)
    same(reopened(copy, state).state, state(3))


def test_a_checkpoint_of_an_older_version(copy, state, tiny_config):
    """It holds no position in the data: its weights serve, but no training goes on from it."""
    for step in ("2", "3"):
        shutil.rmtree(copy / "checkpoints" / step / "run")
        os.rename(copy / "checkpoints" / step / "state", copy / "checkpoints" / step / "default")
    same(load_variables(copy, tiny_config)["params"], state(3).params)
    with pytest.raises(CheckpointError, match="an older version wrote it, without the position"):
        checkpoint.put_aside(copy)


def test_round_trip(state, workdir):
    assert checkpoint.put_aside(workdir) == [] and checkpoint.steps(workdir) == [2, 3]
    restored, position, settings = reopened(workdir, state)
    same(restored, state(3))
    assert position == (3, 13) and settings == SETTINGS
    assert float(jax.random.uniform(restored.key)) == float(jax.random.uniform(jax.random.key(43)))


def test_a_state_that_is_donated_right_after_saving(state, tmp_path):
    """As in train.py: the next step reuses the memory of the state while it is still being written."""
    before = jax.tree.map(np.array, state(5)._replace(key=np.zeros(2)))
    spoil = jax.jit(lambda tree: jax.tree.map(lambda array: array * 0 - 7, tree), donate_argnums=0)
    current = state(5)
    with checkpoint.manager(tmp_path) as checkpoints:
        checkpoint.save(checkpoints, current, (0, 5), SETTINGS)
        jax.block_until_ready(spoil(current._replace(key=jnp.zeros(2))))
    same(reopened(tmp_path, state).state._replace(key=np.zeros(2)), before)


def test_the_best_is_kept_beside_the_newest(state, tmp_path):
    with checkpoint.manager(tmp_path, keep=2) as checkpoints:
        for step, score in ((1, 3.0), (2, 8.0), (3, None), (4, 5.0), (5, None), (6, None)):
            checkpoint.save(checkpoints, state(step), (0, step), SETTINGS, score)
    assert checkpoint.steps(tmp_path) == [2, 5, 6]


@pytest.mark.parametrize("scores", [(3.0, 8.0, 5.0, None), (None, 8.0, None, None), (8.0, 8.0, 1.0, None)])
def test_the_best_is_known_to_a_run_that_goes_on(state, tmp_path, scores):
    for step, score in enumerate(scores, 1):  # a manager each, as a training that is killed after every checkpoint
        with checkpoint.manager(tmp_path, keep=1) as checkpoints:
            checkpoint.save(checkpoints, state(step), (0, step), SETTINGS, score)
    assert checkpoint.steps(tmp_path) == [2, 4]


def test_a_damaged_score_is_a_damaged_checkpoint(state, tmp_path):
    with checkpoint.manager(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoint.save(checkpoints, state(step), (0, step), SETTINGS, 5.0)
    (tmp_path / "checkpoints" / "2" / "metrics" / "metrics").write_text("{")
    (line,) = checkpoint.put_aside(tmp_path)
    assert "checkpoint 2 is damaged" in line and reopened(tmp_path, state).position == (0, 1)


def test_a_second_manager_is_refused_and_leaves_the_save_in_progress_alone(state, tmp_path):
    with checkpoint.manager(tmp_path) as checkpoints:
        checkpoint.save(checkpoints, state(1), (0, 1), SETTINGS)
        writing = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
        writing.mkdir()
        with pytest.raises(LedgerError, match="checkpoints is in use by process"):
            checkpoint.manager(tmp_path)
        assert writing.is_dir()
    with checkpoint.manager(tmp_path):
        assert not writing.exists() and checkpoint.steps(tmp_path) == [1]


@pytest.mark.parametrize("limit", [20_000, 200])
def test_a_full_disk_is_one_line(limit, tmp_path):
    """The system refuses files above a limit, as it refuses all on a full disk; in a process of its own."""
    code = f"""
import resource
import jax, numpy as np
from autofocus_jax.weights import checkpoint
from autofocus_jax.structures import TrainState
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
params = {{f"kernel{{number}}": np.random.default_rng(0).random((100, 100)) for number in range(20)}}
state = TrainState(np.int32(1), params, {{}}, {{}}, jax.random.key(0))
try:
    with checkpoint.manager({str(tmp_path)!r}) as checkpoints:
        checkpoint.save(checkpoints, state, (0, 1), {{}})
except checkpoint.CheckpointError as error:
    print("told:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "told: checkpoint of step 1 in" in done.stdout, done.stderr[-2000:]
    assert "check the space on the disk" in done.stdout
    assert "Event loop" not in done.stderr, "pending writes are no news beside that line"
    assert "ERROR:" not in done.stderr and "orbax" not in done.stderr, done.stderr[-2000:]
    assert done.returncode == 0 and checkpoint.steps(tmp_path) == []


def test_names_that_are_not_utf_8_are_refused_before_anything_is_written(tmp_path, tiny_config):
    folder = tmp_path / "w\udce9"
    (folder / "checkpoints" / "1").mkdir(parents=True)
    for ask in (checkpoint.manager, checkpoint.steps, lambda path: load_variables(path, tiny_config),
                lambda path: load_variables(path / "checkpoints" / "1", tiny_config)):  # fmt: skip
        with pytest.raises(checkpoint.CheckpointError, match=r"w\\xe9.* has a name that is not UTF-8"):
            ask(folder)


def test_averaged_parameters_are_those_of_the_detector(state, tmp_path, tiny_config):
    averaged = state(3)._replace(ema=state(4).params)
    with checkpoint.manager(tmp_path) as checkpoints:
        checkpoint.save(checkpoints, averaged, (0, 3), SETTINGS)
        checkpoint.save(checkpoints, state(5), (0, 5), SETTINGS)
    same(load_variables(tmp_path / "checkpoints" / "3", tiny_config)["params"], state(4).params)
    same(load_variables(tmp_path, tiny_config)["params"], state(5).params)
    shutil.rmtree(tmp_path / "checkpoints" / "5")
    with checkpoint.manager(tmp_path) as checkpoints:
        restored = checkpoint.restore(checkpoints, state(0)._replace(ema=state(0).params))
    same(restored.state, averaged)


def test_variables_from_a_folder_and_from_a_file(state, workdir, tiny_config, tmp_path):
    newest = {"params": state(3).params, "batch_stats": state(3).batch_stats}
    same(load_variables(workdir, tiny_config), newest)
    same(load_variables(str(workdir), tiny_config), newest)
    safetensors.save(tmp_path / "model.safetensors", newest, {})
    same(load_variables(tmp_path / "model.safetensors", tiny_config), newest)


def test_missing(tmp_path, tiny_config):
    with pytest.raises(CheckpointError, match=r"none does not exist; give a \.safetensors file or"):
        load_variables(tmp_path / "none", tiny_config)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_variables(tmp_path, tiny_config)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="holds no finished checkpoint; train longer"):
        load_variables(tmp_path, tiny_config)


def test_a_file_that_is_no_checkpoint(tmp_path, tiny_config):
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(AutoFocusError, match=r"notes\.txt are damaged or no safetensors file"):
        load_variables(tmp_path / "notes.txt", tiny_config)


@pytest.mark.parametrize("name", ["4.orbax-checkpoint-tmp", "4.orbax-checkpoint-tmp-1"])
def test_an_unfinished_checkpoint_is_passed_over(state, copy, tiny_config, name):
    """What an interrupt leaves behind is a folder of another name; the state before it counts."""
    folder = copy / "checkpoints"
    shutil.copytree(folder / "3", folder / name)
    shutil.rmtree(folder / name / "state" / "d")
    same(load_variables(copy, tiny_config)["params"], state(3).params)
    assert (folder / name).exists()  # perhaps it is being written by a training
    assert checkpoint.put_aside(copy) == ["checkpoint 4 was cut off while it was written, and is passed over"]
    same(reopened(copy, state).state, state(3))
    assert not (folder / name).exists() and checkpoint.put_aside(copy) == []


@pytest.fixture
def older(tmp_path, tiny_config, tiny_variables):
    """Weights whose config was written before kinds of backbone and pooling were settings."""
    settings = to_dict(tiny_config.detector)
    for name in ("kind", "deformable_groups", "folded"):
        del settings["backbone"][name]
    for name in ("roi_pooling", "compute_dtype", "frozen_norm", "proposal_least_side"):
        del settings[name]
    path = tmp_path / "older.safetensors"
    safetensors.save(path, tiny_variables, {"detector": settings})
    return path


def test_what_the_file_does_not_say_is_the_default(older, tiny_config, tiny_variables):
    stored = safetensors.flatten(load_variables(older, tiny_config))
    assert all((stored[name] == array).all() for name, array in safetensors.flatten(tiny_variables).items())


def test_computing_otherwise_is_no_other_detector(older, tiny_config):
    detector = dataclasses.replace(tiny_config.detector, compute_dtype="bfloat16", frozen_norm=True)
    loaded = load_variables(older, dataclasses.replace(tiny_config, detector=detector))
    assert safetensors.flatten(loaded).keys() == safetensors.flatten(load_variables(older, tiny_config)).keys()


def test_another_dilation_is_named(older, tiny_config):
    backbone = dataclasses.replace(tiny_config.detector.backbone, dilation=1)
    detector = dataclasses.replace(tiny_config.detector, backbone=backbone)
    with pytest.raises(CheckpointError, match=r"backbone\.dilation: 2 -> 1\)"):
        load_variables(older, dataclasses.replace(tiny_config, detector=detector))


def test_weights_without_a_config_are_taken_by_their_shapes(tmp_path, tiny_config, tiny_variables):
    path = tmp_path / "bare.safetensors"
    safetensors.save(path, tiny_variables, {})
    stored = safetensors.flatten(load_variables(path, tiny_config))
    assert all((stored[name] == array).all() for name, array in safetensors.flatten(tiny_variables).items())


def test_weights_with_random_parts_are_refused(tmp_path, tiny_config, tiny_variables):
    path = tmp_path / "backbone.safetensors"
    safetensors.save(path, tiny_variables, to_dict(tiny_config), {"untrained": ["box_head", "focus_head"]})
    with pytest.raises(CheckpointError, match="random values in box_head, focus_head"):
        load_variables(path, tiny_config)
