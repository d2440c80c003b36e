"""The guides keep their word: Python runs, commands parse, the reference is made, the notebook runs."""

import dataclasses
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

import autofocus_jax
from autofocus_jax.config.load import parse
from autofocus_jax.structures import Bucket
from tests.report_page import Parsed

ROOT = Path(__file__).parent.parent
GUIDES = ("choosing_scales.md", "from_checkpoint.md", "extending.md", "data.md", "any_detector.md", "learning_where.md",
          "given_area.md", "rasters.md", "reports.md", "video.md")  # fmt: skip


def blocks(page, language):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return ["\n".join(line.removeprefix(indent) for line in block.splitlines()) for indent, block in found]


COMMANDS = [line for page in (*(f"docs/{name}" for name in GUIDES), "README.md")
            for block in blocks(f"../{page}", "bash") for line in block.splitlines()
            if line.startswith("autofocus ")]  # fmt: skip


def test_there_are_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line):
    _, name, *words = shlex.split(line)
    if name == "experiment":  # its config may have options too
        words = shlex.split(re.sub(r" --(detector|data\.\w+) \S+", "", line))[2:]
    if name in ("train", "evaluate"):
        pytest.skip("they are the programs of the same name, whose commands tests/test_readme.py parses")
    if name == "experiment":
        module, *words = f"experiments.{words[0]}", *words[1:]
    else:
        module = f"command.options.{name.replace('-', '_')}"
    kind = importlib.import_module(f"autofocus_jax.{module}").Arguments
    assert isinstance(parse(kind, words, prog="autofocus"), kind)


def test_the_snippets_of_extending(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AUTOFOCUS_CACHE", str(tmp_path))
    config, load = autofocus_jax.load_config(ROOT / "configs" / "demo.py"), autofocus_jax.load
    # Three buckets in place of 80: compiling is most of the time, and the snippets are about something else.
    few = tuple(Bucket(*shape) for shape in ((256, 256, 8), (640, 640, 2), (1280, 1280, 1)))
    monkeypatch.setattr(autofocus_jax, "load_config", lambda _: dataclasses.replace(config, buckets=few))
    monkeypatch.setattr(autofocus_jax, "load", lambda *given, **more: load(*given, **more).changed(
        lambda config: dataclasses.replace(config, buckets=few)))  # fmt: skip
    names = {"__name__": "extending"}
    for number, block in enumerate(blocks("extending.md", "python")):
        exec(compile(block, f"extending.md, block {number}", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ detections, \d+% of the pixels", printed[0])
    for name, line in zip(("quarters", "Algorithm 1", "cheap", "pyramid"), printed[1:5]):
        assert re.fullmatch(rf"{name}: \d+\.\d AP, \d+ pixels", line)
    assert re.fullmatch(r"\d+ bright spots, \[1, \d+, \d+\] chips", printed[5])
    assert re.fullmatch(r"\d+ spots of score 0\.5 or more", printed[6])
    assert re.fullmatch(r"\d+ parameters, boxes \(1, 128, 4\)", printed[7])
    assert printed[8] == "(1, 16, 4) (1, 16, 12) (1, 4, 6)" and printed[9] == "4 images of square"


def test_the_snippet_of_reports(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("reports.md", "python")
    exec(compile(block, "reports.md", "exec"), {"__name__": "reports"})
    shown = Parsed((tmp_path / "report.html").read_text(encoding="utf-8")).photographs()
    assert shown["a.jpg"]["panes"][0]["found"]["boxes"] == [[40, 40, 90, 120]]


def test_the_snippet_of_any_detector(monkeypatch, capsys, tmp_path):
    onnx = pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    rows = onnx.numpy_helper.from_array(np.array([[[1, 2, 30, 40, 0.9, 0.1]]], np.float32), "rows")
    inputs, outputs = (
        [helper.make_tensor_value_info(name, kind, shape)]
        for name, shape in (("images", [1, 3, 64, 64]), ("strange", [1, 1, 6]))
    )
    graph = helper.make_graph([helper.make_node("Identity", ["rows"], ["strange"])], "tiny", inputs, outputs, [rows])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "strange.onnx"))
    monkeypatch.chdir(tmp_path)
    # The others want SAHI and supervision, and have tests of their own.
    for block in blocks("any_detector.md", "python"):
        if "sahi" in block or "supervision" in block:
            continue
        exec(compile(block, "any_detector.md", "exec"), {"__name__": "any_detector"})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\['thing'(, 'thing')*\] \d+% of the pixels", printed[0]) and printed[1:] == ["1 boxes"]


def test_the_reference_is_made(tmp_path):
    """By the command of CONTRIBUTING.md, with every public name in it."""
    command = re.search(r"^    pdoc (.*)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    words = [str(tmp_path) if word == "site" else word for word in command.split()]
    subprocess.run([sys.executable, "-m", "pdoc", *words], cwd=ROOT, check=True, capture_output=True)
    page = (tmp_path / "autofocus_jax.html").read_text(encoding="utf-8")
    assert [name for name in autofocus_jax.__all__ if f'id="{name}"' not in page] == []


def test_the_notebook_runs(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("nb")  # short: it holds the kernel's sockets
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(folder))
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    # Sockets in a folder, for a port that was free a moment ago may be another program's when the kernel wants it; and
    # a busy machine is given time.
    sockets = Config({"ConnectionFileMixin": {"transport": "ipc", "ip": str(folder / "kernel")}})
    client = NotebookClient(notebook, config=sockets, kernel_name="python3", timeout=600, startup_timeout=300,
                            resources={"metadata": {"path": str(ROOT)}})  # fmt: skip
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = "".join(output.get("text", "") for output in outputs)
    assert "of the pyramid's pixels" in text and "times fewer pixels than the pyramid" in text


def test_the_snippet_of_a_given_area(capsys):
    (block,) = blocks("given_area.md", "python")
    exec(compile(block, "given_area.md", "exec"), {"__name__": "given_area"})
    assert re.fullmatch(r"\d+% of the pixels\n", capsys.readouterr().out)


def test_the_snippet_of_video(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("video.md", "python")
    exec(compile(block, "video.md", "exec"), names := {"__name__": "video"})
    for number, line in enumerate(capsys.readouterr().out.splitlines()):
        printed = re.fullmatch(r"frame (\d): \[\[(.*), 200.0, (.*), 240.0\]\], (\d+)% of the pixels", line)
        assert printed.groups()[:3] == (str(number), f"{100.0 + 8 * number}", f"{140.0 + 8 * number}")
        assert not number or int(printed[4]) < 20
    assert names["state"].number == 4


def test_the_snippet_of_rasters(capsys):
    (block,) = blocks("rasters.md", "python")
    exec(compile(block, "rasters.md", "exec"), {"__name__": "rasters"})
    printed = re.fullmatch(
        r"\[\[(\d+)\. (\d+)\. (\d+)\. (\d+)\.\]\] (\d\.\d)% of the pixels\n", capsys.readouterr().out
    )
    np.testing.assert_allclose([float(side) for side in printed.groups()[:4]], [5900, 3800, 6500, 4400], atol=12)
    assert float(printed[5]) < 5
