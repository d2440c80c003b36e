"""The command: its help, its errors, and that it opens no image and imports no JAX."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from autofocus_jax.command.experiment import EXPERIMENTS
from autofocus_jax.command.main import main
from autofocus_jax.experiments.inputs import Inputs


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_arguments_and_a_line_of_help(name):
    experiment = importlib.import_module(f"autofocus_jax.experiments.{name}")
    assert issubclass(experiment.Arguments, Inputs) and callable(experiment.run)
    first = ("Fig", "Table", "Section")
    assert experiment.__doc__.startswith(first) and EXPERIMENTS[name].startswith(first), "both name the figure"


def test_help(capsys):
    assert main(["experiment", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in EXPERIMENTS) and "NAME.json" in shown
    assert main(["experiment", next(iter(EXPERIMENTS)), "--help"]) == 0
    assert "--annotations" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["bla"], ["areas"], ["areas", "--config", "none.py", "--output", "x"]])
def test_errors_are_one_line(argv, capsys):
    assert main(["experiment", *argv]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_inputs_that_do_not_fit(tiny_config_file, coco_file, tmp_path, capsys):
    start = ["areas", "--config", tiny_config_file, "--output", str(tmp_path / "out")]
    assert main(["experiment", *start, "--images", "here"]) == 1
    assert "--annotations" in capsys.readouterr().err
    assert main(["experiment", *start, "--annotations", coco_file([])]) == 1
    assert "hold no image" in capsys.readouterr().err
    assert main(["experiment", *start, "--annotations", coco_file([(8, 8, [])]), "--limit", "0"]) == 1
    assert "--limit 0" in capsys.readouterr().err
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(Path(coco_file([(8, 8, [])])).read_bytes()[:40])
    assert main(["experiment", *start, "--annotations", str(cut)]) == 1
    assert "gzip" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_starts_without_jax():
    names = [f"autofocus_jax.experiments.{name}" for name in EXPERIMENTS]
    code = f"import sys, {', '.join(names)}; print(sorted({{'jax', 'flax'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
