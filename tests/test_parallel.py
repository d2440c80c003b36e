"""Several devices and processes. JAX fixes the number of devices when it starts, so these run in their own process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofocus_jax import parallel
from autofocus_jax.structures import Bucket

ROOT = Path(__file__).parent.parent

DEVICES = """
import os, sys
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
import dataclasses
import jax, numpy as np
sys.path.insert(0, "tests")
from conftest import _check_same_detections, _draw_variables, tiny_config, tiny_detector
from autofocus_jax import parallel
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.buckets import BucketError
from autofocus_jax.inference.compiled import compile_detector

assert jax.device_count() == 4
over = parallel.mesh()
doubled = jax.jit(parallel.pmap(lambda x, y: (x + y, jax.lax.pmean(x, parallel.AXIS)), over, (False, True)))
x, y = np.arange(8.0, dtype=np.float32).reshape(8, 1), np.full((2, 1), 10, np.float32)
added, mean = doubled(parallel.split(x, over), parallel.replicate(y, over))
np.testing.assert_array_equal(added, x + 10)
np.testing.assert_array_equal(np.asarray(mean)[:2], [[3], [4]])  # rows 0, 2, 4, 6 and rows 1, 3, 5, 7

detector = tiny_detector.__wrapped__()
config = tiny_config.__wrapped__(detector)
variables = _draw_variables(detector)
random = np.random.default_rng(0)
images = [random.integers(0, 256, (*size, 3), np.uint8) for size in [(60, 90), (61, 80), (90, 91), (33, 41), (64, 96)]]
# Random weights know no objects, so the threshold is what half of the cells of one image reach.
_, _, ((stage, _),) = cascade(images[:1], compile_detector(config, variables), Plan.of(config))
coarse, fine = config.scales
rule = dataclasses.replace(coarse.chips, threshold=float(np.median(stage.focus[0])))
config = dataclasses.replace(config, scales=(dataclasses.replace(coarse, chips=rule), fine))
results = []
for count in (1, 2, 4):
    spread = parallel.spread(config.buckets, count)
    several = dataclasses.replace(config, buckets=spread)
    detect = compile_detector(several, variables, jax.devices()[:count])
    found, info, _ = cascade(images, detect, Plan(config.scales, spread, config.stacking))
    results.append(found)
    assert info.chips[1] > 0 and sum(len(f.scores) for f in found) > 50
for found in results[1:]:
    for one, other in zip(results[0], found, strict=True):
        _check_same_detections(one, other)
try:
    compile_detector(config, variables, jax.devices())
except BucketError as error:
    assert "do not split over 4 devices; use parallel.spread" in str(error)
print("equal")
"""


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip


@pytest.mark.numbers
def test_one_two_and_four_devices_find_the_same():
    done = python(DEVICES)
    assert done.returncode == 0 and done.stdout == "equal\n", done.stderr


def test_compiled_programs_are_kept_for_the_next_start(tmp_path, monkeypatch):
    code = (
        "import jax, jax.numpy as jnp\nfrom autofocus_jax import parallel\nparallel.cache_compilations()\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\njax.jit(lambda x: x @ x)(jnp.eye(8))\n"
    )
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    environment = {"AUTOFOCUS_CACHE": str(tmp_path)}
    assert python(code, **environment).returncode == 0
    kept = list((tmp_path / "compiled").iterdir())
    assert kept
    other = tmp_path / "named"
    assert python(code, **environment, JAX_COMPILATION_CACHE_DIR=str(other)).returncode == 0
    assert list(other.iterdir()) and list((tmp_path / "compiled").iterdir()) == kept


def test_the_folder_of_compiled_programs_is_expanded(tmp_path):
    """As a file of settings gives it, where no shell expands it."""
    code = "import jax\nfrom autofocus_jax import parallel\nparallel.cache_compilations()\n"
    code += "print(jax.config.jax_compilation_cache_dir)\n"
    environment = {"AUTOFOCUS_CACHE": "~/cache", "HOME": str(tmp_path)}
    started = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=started | environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "cache" / "compiled")


def test_buckets_for_several_devices():
    assert parallel.spread((Bucket(16, 32, 3), Bucket(32, 16, 1)), 4) == (Bucket(16, 32, 12), Bucket(32, 16, 4))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((None, 2, 0), "no coordinator"),
        (("localhost:1", None, 0), "number of processes"),
        (("localhost:1", 2, 2), "process 2 of 2"),
        (("localhost:1", 2, -1), "numbered from 0"),
    ],
)
def test_processes_that_do_not_fit(given, says):
    with pytest.raises(parallel.ParallelError, match=says):
        parallel.join(*given)


def test_one_process_need_not_join():
    parallel.join(None, None, None)
    parallel.wait_for_all("nothing")
    assert parallel.process() == (0, 1)


def test_fetched_arrays_are_copies():
    """What is donated to the next step must not change them; keys become their data."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    tree = {"a": jnp.arange(3.0), "key": jax.random.key(5), "host": np.ones(2), "none": None}
    fetched = parallel.fetch(parallel.replicate({"a": tree["a"], "key": tree["key"]}, parallel.mesh()))
    np.testing.assert_array_equal(fetched["a"], [0, 1, 2])
    np.testing.assert_array_equal(fetched["key"], jax.random.key_data(tree["key"]))
    fetched = parallel.fetch(tree)
    assert fetched["none"] is None and fetched["host"] is not tree["host"] and fetched["host"].flags.owndata
    jax.block_until_ready(jax.jit(lambda a: a * 0 - 7, donate_argnums=0)(tree["a"]))
    np.testing.assert_array_equal(fetched["a"], [0, 1, 2])
    assert parallel.from_first(fetched) is fetched
