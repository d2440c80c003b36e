"""Saving and restoring through orbax, and every way to name the variables of an evaluation."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax import checkpoint
from autofocus_jax.checkpoint import CheckpointError, load_variables
from autofocus_jax.config import AnchorConfig
from autofocus_jax.config_file import to_dict
from autofocus_jax.structures import AutoFocusError, TrainState
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.weights import safetensors

# When one array cannot be read, orbax leaves the reads of the others behind, and they complain about a closed event
# loop when they end, perhaps while the next test runs. So the tests where this happens come first.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def state(tiny_config, draw_variables):
    """make(step) -> a TrainState whose arrays differ from step to step."""
    transform = optimizer(tiny_config.training)

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
            checkpoint.save(checkpoints, state(step))
    return folder


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
        pytest.raises(CheckpointError, match=r"3 is not of this config.* use another --workdir") as error,
    ):
        checkpoint.restore(checkpoints, state(0, config.detector))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["default", "default/_METADATA", "default/manifest.ocdbt", "default/d"])
def test_a_damaged_checkpoint(state, workdir, tiny_config, tmp_path, part):
    """Half of a folder, as a full disk or a broken copy leaves it, is one line and not a traceback."""
    shutil.copytree(workdir, tmp_path / "copy")
    target = tmp_path / "copy" / "checkpoints" / "3" / part
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(CheckpointError, match="3") as error:
        load_variables(tmp_path / "copy", tiny_config)
    assert "\n" not in str(error.value)
    with checkpoint.manager(tmp_path / "copy") as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoint.restore(checkpoints, state(0))
    assert "\n" not in str(error.value)


def test_round_trip(state, workdir):
    with checkpoint.manager(workdir) as checkpoints:
        assert checkpoints.latest_step() == 3 and list(checkpoints.all_steps()) == [2, 3]
        restored = checkpoint.restore(checkpoints, state(0))
    same(restored, state(3))
    assert float(jax.random.uniform(restored.key)) == float(jax.random.uniform(jax.random.key(43)))


def test_a_state_that_is_donated_right_after_saving(state, tmp_path):
    """As in train.py: the next step reuses the memory of the state while it is still being written."""
    before = jax.tree.map(np.array, state(5)._replace(key=np.zeros(2)))
    spoil = jax.jit(lambda tree: jax.tree.map(lambda array: array * 0 - 7, tree), donate_argnums=0)
    current = state(5)
    with checkpoint.manager(tmp_path) as checkpoints:
        checkpoint.save(checkpoints, current)
        jax.block_until_ready(spoil(current._replace(key=jnp.zeros(2))))
    with checkpoint.manager(tmp_path) as checkpoints:
        same(checkpoint.restore(checkpoints, state(0))._replace(key=np.zeros(2)), before)


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


def test_an_unfinished_checkpoint_is_passed_over(state, workdir, tiny_config, tmp_path):
    """What an interrupt leaves behind is a folder of another name; the state before it counts."""
    shutil.copytree(workdir, tmp_path / "copy")
    folder = tmp_path / "copy" / "checkpoints"
    shutil.copytree(folder / "3", folder / "4.orbax-checkpoint-tmp-1")
    same(load_variables(tmp_path / "copy", tiny_config)["params"], state(3).params)
    with checkpoint.manager(tmp_path / "copy") as checkpoints:
        assert checkpoints.latest_step() == 3


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
