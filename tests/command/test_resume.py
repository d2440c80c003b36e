"""A training that is killed or stopped and goes on ends, to the bit, as one that ran through."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from autofocus_jax.command import stage
from autofocus_jax.command.main import main
from autofocus_jax.weights import checkpoint


def train_main(words):
    return main(["train", *words])


ROOT = Path(__file__).parents[2]
STEPS = 6

pytestmark = [pytest.mark.numbers, pytest.mark.usefixtures("quick_compilation")]


def words(folder, workdir, *more):
    settings = "--validation-images", 0, "--training.steps", STEPS, "--training.ema", 0.9
    given = ["--config", folder / "config.py", "--workdir", workdir, *settings, *more]
    return [str(word) for word in given]


def stored(workdir, step=STEPS):
    """Everything in a checkpoint: arrays by name, position and config."""
    folder = workdir / "checkpoints" / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(folder.absolute() / "state")
    flat = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)}
    return flat, json.loads((folder / "run" / "metadata").read_text())


def assert_same(one, other, step=STEPS):
    (arrays, run), (others, other_run) = stored(one, step), stored(other, step)
    assert arrays.keys() == others.keys() and any("ema" in name for name in arrays)
    for name, array in arrays.items():
        assert array.tobytes() == others[name].tobytes(), name
    assert run == other_run


@pytest.fixture(scope="module")
def through(folder, tmp_path_factory):
    """The workdir of a run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("through")
    assert train_main(words(folder, workdir)) == 0
    return workdir


def logged(workdir):
    return [json.loads(line)["step"] for line in (workdir / "log.jsonl").read_text().splitlines()]


def at_step(monkeypatch, action):
    """Calls action(step) in the loop, while that step is on the device."""
    real = stage.loop.run

    def run(step, state, batches, training, hooks, *rest):
        def stop(number):
            action(number)
            return hooks.stop(number)

        return real(step, state, batches, training, hooks._replace(stop=stop), *rest)

    monkeypatch.setattr(stage.loop, "run", run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_twice(folder, through, tmp_path, monkeypatch, capsys, number):
    """The signal comes between checkpoints, which are at 2, 4 and 6."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told programs to ignore it
    with monkeypatch.context() as patch:
        at_step(patch, lambda step: step in (1, 5) and os.kill(os.getpid(), number))
        for stopped in (1, 5):
            assert train_main(words(folder, tmp_path)) == 128 + number
            err = capsys.readouterr().err
            assert f"after step {stopped}; everything is saved; the same command goes on" in err
            assert checkpoint.steps(tmp_path)[-1] == stopped and not (tmp_path / "model.safetensors").exists()
    assert train_main(words(folder, tmp_path)) == 0
    assert "going on from step 5" in capsys.readouterr().out
    assert_same(through, tmp_path)
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6]


class Killed(BaseException):
    """Stands for a kill: nothing catches it and nothing is saved after it."""


@pytest.mark.slow
def test_cut_short_at_every_step(folder, through, tmp_path, monkeypatch):
    """What was done since the last checkpoint is done again, with the same data and the same randomness."""
    deaths = iter(range(1, STEPS + 1))
    doomed = [next(deaths)]

    def die(step):
        if step == doomed[0]:
            doomed[0] = next(deaths, None)
            raise Killed

    with monkeypatch.context() as patch:
        at_step(patch, die)
        for _ in range(STEPS):
            with pytest.raises(Killed):
                train_main(words(folder, tmp_path))
        assert train_main(words(folder, tmp_path)) == 0
    assert_same(through, tmp_path)
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_a_damaged_checkpoint_and_one_cut_off(folder, through, tmp_path, monkeypatch, capfd):
    """Both are passed over with a warning; the run goes on from the one before and ends the same."""
    with monkeypatch.context() as patch:
        at_step(patch, lambda step: step == 5 and os.kill(os.getpid(), signal.SIGTERM))
        assert train_main(words(folder, tmp_path)) == 128 + signal.SIGTERM
    checkpoints = tmp_path / "checkpoints"
    assert checkpoint.steps(tmp_path) == [4, 5]
    largest = max((checkpoints / "5" / "state").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    os.truncate(largest, largest.stat().st_size - 1)
    (checkpoints / "6.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    capfd.readouterr()
    assert train_main(words(folder, tmp_path)) == 0
    out, err = capfd.readouterr()
    assert "warning: checkpoint 6 was cut off while it was written" in out
    assert "warning: checkpoint 5 is damaged" in out and "going on from step 4" in out
    assert "Traceback" not in out + err and "Event loop" not in out + err
    assert_same(through, tmp_path)


def environment(tmp_path):
    """As this process compiles, so that two programs differ in nothing but when they were killed."""
    return os.environ | {
        "AUTOFOCUS_CACHE": str(tmp_path / "cache"), "PYTHONUNBUFFERED": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "JAX_PLATFORMS": "cpu",
    }  # fmt: skip


def killed(command, environment, step):
    """Starts a program and kills it when it has logged a step; None lets it end. Returns its exit code and output."""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        lines = []
        for line in running.stdout:
            lines.append(line)
            if step is not None and f"training, step {step}/" in line:
                running.kill()
                break
        return running.wait(), "".join(lines)


def test_killed_then_stopped(folder, through, tmp_path, monkeypatch, capsys):
    """By SIGKILL, as soon as step 3 is logged: between two checkpoints, or while the one of step 2 is being written.
    Then by SIGTERM after step 5."""
    command = [sys.executable, "train.py", *words(folder, tmp_path)]
    code, out = killed(command, environment(tmp_path), 3)
    assert code == -signal.SIGKILL, out
    with monkeypatch.context() as patch:
        at_step(patch, lambda step: step == 5 and os.kill(os.getpid(), signal.SIGTERM))
        assert train_main(words(folder, tmp_path)) == 128 + signal.SIGTERM
    assert "after step 5; everything is saved" in capsys.readouterr().err
    assert checkpoint.steps(tmp_path)[-1] == 5 and not (tmp_path / "model.safetensors").exists()
    assert train_main(words(folder, tmp_path)) == 0
    assert "going on from step 5" in capsys.readouterr().out
    assert_same(through, tmp_path)
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_the_demo_killed_at_random_steps(tmp_path):
    """configs/demo.py on a few of its scenes, with negative chips: both stages are killed again and again."""
    steps, stage_steps = 12, 4
    short = {
        "data.train": 6, "data.val": 1, "training.steps": steps, "training.batch": 4, "training.log_every": 1,
        "training.checkpoint_every": 2, "training.warmup_steps": 2, "training.negative_chips": 2,
        "training.proposals_steps": stage_steps, "training.ema": 0.9,
    }  # fmt: skip
    settings = [word for name, value in short.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    settings += ["--training.negative-proposals", "0", "0", "0", "--validation-images", "0"]

    def command(workdir):
        return [sys.executable, "train.py", "--config", "configs/demo.py", "--workdir", str(workdir), *settings]

    code, out = killed(command(tmp_path / "through"), environment(tmp_path), None)
    assert code == 0, out
    draw, kills, step = random.Random(0), 0, 0
    while True:
        step = step + draw.randint(1, 4)
        code, out = killed(command(tmp_path / "killed"), environment(tmp_path), step if step < steps else None)
        if code == 0:
            break
        assert code == -signal.SIGKILL, out
        kills += 1
    assert kills >= 3
    assert_same(tmp_path / "through", tmp_path / "killed", steps)
    assert logged(tmp_path / "killed") == list(range(1, steps + 1))
