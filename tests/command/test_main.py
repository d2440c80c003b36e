"""The command itself: help, sub-commands that do not exist, both ways to call it, and that it starts without JAX."""

import subprocess
import sys

import pytest

from autofocus_jax.command import main as command
from autofocus_jax.structures import AutoFocusError


def test_help(autofocus, capsys):
    code, out, err = autofocus("--help")
    assert code == 0 and err == "" and out.startswith("usage: autofocus COMMAND")
    for name in command.COMMANDS:
        assert f"  {name} " in out
        assert command.main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"usage: autofocus {name}" in text and "autofocus " + name in text
    assert autofocus()[0] == 2


def test_no_such_command(autofocus):
    assert autofocus("detekt") == (2, "", "autofocus: there is no command 'detekt'; did you mean detect?\n")
    assert "want one of detect, " in autofocus("xyz")[2]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (AutoFocusError("no luck; try again"), 1, "autofocus suggest: no luck; try again\n"),
        (PermissionError(13, "Permission denied", "/a/b"), 1, "autofocus suggest: /a/b cannot be used: Permission"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), 1, "autofocus suggest: the memory"),
        (MemoryError(), 1, "autofocus suggest: the memory is used up"),
        (KeyboardInterrupt(), 130, "autofocus suggest: interrupted\n"),
    ],
)
def test_errors_are_one_line(autofocus, monkeypatch, error, code, says):
    from autofocus_jax.command import suggest

    def fail(*_):
        raise error

    monkeypatch.setattr(suggest, "open_annotations", fail)
    assert autofocus("suggest", "x")[0] == code and autofocus("suggest", "x")[2].startswith(says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("evaluate --config c.py --checkpoint x", "--checkpoint is no option any more; give --weights"),
        ("evaluate --config c.py --workdir=x", "--workdir is no option any more; give --output"),
        ("train --config c.py --weights x", "--weights is no option any more; give --initial"),
        ("experiment recall --config c.py --checkpoint x", "--checkpoint is no option any more; give --weights"),
        ("experiment fig9", "want the name of an experiment first, got 'fig9'; one of areas, "),
    ],
)
def test_old_spellings_name_the_new_one(autofocus, words, says):
    code, out, err = autofocus(*words.split())
    assert code == 1 and out == "" and err.count("\n") == 1
    assert err.startswith(f"autofocus {words.split()[0]}: {says}")


def test_a_config_of_an_older_version(autofocus, tmp_path):
    text = "from autofocus_jax import Config\ndef get_config():\n    return Config(weights=None)\n"
    (tmp_path / "c.py").write_text(text)
    code, _, err = autofocus("buckets", "--config", tmp_path / "c.py")
    assert code == 1 and err.endswith("'weights'; Config.weights is called Config.shipped now\n")


def test_help_imports_nothing_that_is_slow_to_import():
    slow = {"jax", "flax", "cv2", "scipy", "matplotlib", "PIL", "grain", "orbax", "ray", "pyarrow", "onnxruntime"}
    slow |= {"tensorflow", "tensorflow_datasets", "keras"}
    code = f"""
import sys
from autofocus_jax.command.main import COMMANDS, main
codes = [main([*name, "--help"]) for name in ([], *([name] for name in COMMANDS))]
print(codes, sorted(set(sys.modules) & {slow}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == f"{[0] * (1 + len(command.COMMANDS))} []\n"


def test_the_module_is_the_command_and_help_does_not_import_jax():
    code = "import sys, runpy; sys.argv = ['autofocus', '--help']\ntry: runpy.run_module('autofocus_jax', run_name="
    code += "'__main__')\nexcept SystemExit as stop: print(stop.code, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: autofocus") and done.stdout.endswith("0 False\n")
