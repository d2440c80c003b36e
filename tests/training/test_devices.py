"""The same whole batch on one device and on four. JAX fixes their number when it starts: each case has its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import os, sys
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
import dataclasses
import flax.linen, jax, numpy as np
sys.path.insert(0, "tests")
from conftest import _draw_variables, tiny_config, tiny_detector
from autofocus_jax import parallel
from autofocus_jax.structures import ChipBatch, TrainBatch, TrainState
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import make_step

# A unit that is 0 up to rounding lets its gradient pass or not with ReLU, and a few steps make 1e-3 of that. Without
# such a kink every step is as continuous as the sums whose order the devices change.
flax.linen.relu = lambda x: jax.nn.softplus(8 * x) / 8
norms = sys.argv[1]
assert jax.device_count() == 4
jax.config.update("jax_disable_most_optimizations", True)
detector = dataclasses.replace(tiny_detector.__wrapped__(), frozen_norm=norms == "frozen")
config = tiny_config.__wrapped__(detector)
training = dataclasses.replace(config.training, batch=8, synchronised_norm=norms == "synchronised", ema=0.9,
                               hard_rois=norms == "frozen")
config = dataclasses.replace(config, training=training)
random = np.random.default_rng(0)
low, side = random.uniform(0, 24, (8, 6, 2)), random.uniform(8, 24, (8, 6, 2))
boxes = np.concatenate([low, low + side], axis=2).astype(np.float32)
present = np.arange(6) < random.integers(0, 5, (8, 1))
valid = np.arange(8) != 5  # one device has one row less than the others
chips = ChipBatch(random.integers(0, 256, (8, 48, 48, 3), np.uint8), np.full((8, 2), 48, np.int32), valid)
trainable = present & (random.random((8, 6)) < 0.8)
focus = random.integers(-1, 2, (8, 3, 3)).astype(np.int8)
batch = TrainBatch(chips, boxes, random.integers(0, 3, (8, 6)).astype(np.int32), present, trainable, focus)
if norms == "own":  # slices that are alike have statistics that are alike, and those of the whole batch
    batch = jax.tree.map(lambda values: np.tile(values[:2], (4,) + (1,) * (values.ndim - 1)), batch)
transform, start = optimizer(config), _draw_variables(detector)
ends = []
for count in (1, 4):
    over = parallel.mesh(jax.devices()[:count])
    params, statistics = start["params"], start["batch_stats"]
    state = TrainState(np.int32(0), params, statistics, transform.init(params), jax.random.key(3), params)
    state, slices = parallel.replicate(state, over), parallel.split(batch, over)
    step = jax.jit(make_step(config, transform, over))
    infos = []
    for _ in range(5):
        state, info = step(state, slices)
        infos.append(jax.device_get(info))
    assert len(state.params["backbone"]["conv0"]["kernel"].sharding.device_set) == count
    ends.append(jax.device_get((state.params, state.ema, state.opt_state, state.batch_stats, infos)))
moved = max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(start["params"]), jax.tree.leaves(ends[0][0])))
apart = max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(ends[0][:2]), jax.tree.leaves(ends[1][:2])))
assert moved > 1e-3, moved
assert apart < 1e-5, apart
for a, b in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1])):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
still = jax.tree.map(lambda a, b: bool((a == b).all()), start["batch_stats"], ends[1][3])
assert set(jax.tree.leaves(still)) == {norms == "frozen"}
print("equal")
"""


@pytest.mark.numbers
@pytest.mark.parametrize("norms", ["synchronised", "frozen", "own"])
def test_one_and_four_devices_learn_the_same(norms):
    """Parameters and their average after 5 steps differ by less than 1e-5; what was drawn for a row is the same."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, norms], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "equal\n", done.stderr
