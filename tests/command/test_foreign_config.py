"""A config of a detector that is not ours in the experiments: a tiny ONNX file that finds squares of 8 px."""

import json
import math
from pathlib import Path

import pytest

from autofocus_jax.experiments import __main__ as experiments
from autofocus_jax.experiments import chip_rules, recall

pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")

CONFIG = """
from autofocus_jax.command.detector_options import DetectorOptions
from autofocus_jax.command.foreign_config import ForeignConfig
from autofocus_jax.data.coco import CocoSource

def get_config():
    options = DetectorOptions(padding=(0, 0, 0), side=96, threads=1)
    return ForeignConfig("squares", CocoSource(".", "{split}.json", "photos"), options)
"""
SEARCH = ("--thresholds", "0.02", "0.9", "--dilations", "3", "--min-sizes", "16")


@pytest.fixture
def experiment(squares, square_finder, tmp_path, monkeypatch, capsys):
    """experiment(name, *words) -> (rows of NAME.json, facts, what was printed)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)
    for split in ("val", "tune"):
        (tmp_path / f"{split}.json").write_text((tmp_path / "boxes.json").read_text())
    given = ("--config", "config.py", "--detector", str(square_finder()))

    def run(name, *words):
        code = experiments.main([name, *given, "--output", "found", *words])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        content = json.loads(Path("found", f"{name}.json").read_text())
        return content["rows"], content, printed.out

    run.given = given
    return run


def test_upper_bound(experiment):
    rows, facts, out = experiment("upper_bound", "--min-sizes", "16", "64", "--processes", "1")
    assert "2 scales of 96, 384 px" in out and facts["images"] == 4
    assert facts["pyramid side"] == pytest.approx(math.sqrt(96 * 64 + 384 * 256))
    tight, wide = (next(row for row in rows if row["k"] == k and row["d"] == 3) for k in (16, 64))
    assert tight["speed-up"] > wide["speed-up"] > 1


def test_table_and_figure_6(experiment):
    rows, _, _ = experiment("table")
    ours = {row["method"]: row for row in rows if row.get("source", "").startswith("squares")}
    assert ours["pyramid"]["AP"] == 100 and ours["autofocus"]["AP"] == 100
    assert ours["autofocus"]["side"] < ours["pyramid"]["side"]
    rows, _, _ = experiment("recall", "--thresholds", "0.02", "0.9")
    recalls = {row["t"]: row["recall"] for row in rows
               if (row["what"], row["of"]) == ("FocusChips, scale 1", recall.ALL)}  # fmt: skip
    assert recalls[0.02] == pytest.approx(1) and recalls[0.9] == 0


def test_tradeoff(experiment):
    rows, _, _ = experiment("tradeoff", *SEARCH, "--savings", "2", "50")
    by_name = {row["what"]: row for row in rows}
    assert by_name["pyramid"]["AP"] == 100 and by_name["scale 1"]["AP"] < 50
    ours = [row for row in rows if row["what"] == "AutoFocus"]
    assert any(row["saving"] > 1.5 and row["AP"] == 100 for row in ours)
    for row in ours:  # the search knew what a real run finds
        assert row["replayed AP"] == pytest.approx(row["search AP"], abs=1)


def test_chip_rules(experiment, capsys):
    assert chip_rules.main([*experiment.given, *SEARCH]) == 0
    assert "scale 1: ChipRule(threshold=0.02, dilation=3, min_size=16)" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "says"), [
    (("table", "--annotations", "boxes.json"), "--annotations and --images go with a Config; give --data.annotations"),
    (("tradeoff", "--checkpoint", "w"), "--checkpoint holds weights of our own detector"),
    (("upper_bound", "--only", "blue"), "have no class 'blue'"),
])  # fmt: skip
def test_mistakes_are_one_line(experiment, capsys, words, says):
    assert experiments.main([words[0], *experiment.given, "--output", "found", *words[1:]]) == 1
    err = capsys.readouterr().err
    assert err.startswith("experiments: ") and says in err and err.count("\n") == 1
