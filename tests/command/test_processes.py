"""Several processes train together: the real train.py over loopback."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autofocus_jax.command.main import main
from autofocus_jax.weights import checkpoint, safetensors


def train_main(words):
    return main(["train", *words])


ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]


def words(folder, workdir, steps, *more):
    settings = "--training.steps", steps, "--training.batch", 4, "--validation-images", 1, *more
    return [str(word) for word in ("--config", folder / "config.py", "--workdir", workdir, *settings)]


def start(given, processes=2, devices=2):
    """train.py once a process, each with forced CPU devices; the processes find each other over loopback."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo", "PYTHONUNBUFFERED": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    }  # fmt: skip
    each = ["--coordinator", coordinator, "--processes", str(processes), "--process"]
    return [
        subprocess.Popen(
            [sys.executable, "train.py", *given, *each, str(number)], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(processes)
    ]  # fmt: skip


def finish(running):
    done = [process.communicate(timeout=600)[0] for process in running]
    return [process.returncode for process in running], done


def assert_close(one, other):
    arrays, others = (safetensors.flatten(safetensors.load(path / "model.safetensors")[0]) for path in (one, other))
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, others[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("norm", ["--detector.frozen-norm", "--training.synchronised-norm"])
def test_two_processes_of_two_devices_train_as_one_device(folder, tmp_path, norm):
    codes, outs = finish(start(words(folder, tmp_path / "several", 5, norm)))
    assert codes == [0, 0], "\n".join(outs)
    assert "step 5/5" in outs[0] and "validation images" in outs[0] and "step" not in outs[1]
    assert train_main(words(folder, tmp_path / "one", 5, norm)) == 0
    assert_close(tmp_path / "one", tmp_path / "several")


def test_sigterm_to_one_of_two_processes_stops_both_and_they_go_on(folder, tmp_path):
    rarely = "--training.checkpoint-every", 100
    given = words(folder, tmp_path / "several", 60, "--detector.frozen-norm", *rarely)
    running = start(given)
    for line in running[0].stdout:
        if "step 3/" in line:
            running[1].send_signal(signal.SIGTERM)
            break
    codes, outs = finish(running)
    assert codes == [128 + signal.SIGTERM] * 2, "\n".join(outs)
    (stopped,) = checkpoint.steps(tmp_path / "several")
    assert 3 <= stopped < 60 and "everything is saved" in outs[0]
    codes, outs = finish(start(given))
    assert codes == [0, 0] and f"going on from step {stopped}" in outs[0], "\n".join(outs)
    assert checkpoint.steps(tmp_path / "several")[-1] == 60
