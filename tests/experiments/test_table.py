"""The tables from written files and from the oracle, whose AP is known."""

import json
from collections import Counter

import numpy as np
import pytest

from autofocus_jax.command.main import main
from autofocus_jax.config.load import load_config
from autofocus_jax.experiments import detector, paper, table
from autofocus_jax.experiments.result import silent, write
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.inference import measure
from autofocus_jax.inference.engine import RunResult
from autofocus_jax.metrics.voc import VocScores
from autofocus_jax.structures import Cost

ROW = {"AP": 65.93, "AP50": 86.6, "APs": 52.7, "APm": 75.1, "APl": None, "side": 527.3, "images_per_second": 18.361}


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"scale1": ROW | {"AP": 25.4}, "autofocus": ROW}))
    return path


def arguments(config, folder, **options):
    return table.Arguments(config=config, output=str(folder), **options)


def test_rows_of_files_stand_below_the_copied_ones(tmp_path, tiny_config_file, metrics):
    given = arguments(tiny_config_file, tmp_path, metrics=(f"demo, val={metrics}",))
    result = table.run(given, load_config(tiny_config_file), silent)
    assert [row["source"] for row in result.rows] == [paper.PAPER] * 8 + [paper.RELEASE] * 4 + ["demo, val"] * 2
    files = {path.name for path in write(result, tmp_path, "table")}
    assert files == {"table.json", "table.csv", "table.md"}
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| autofocus | 527 | 65.9 | 86.6 | 52.7 | 75.1 | - | 18.36 | demo, val |" in lines
    assert "| AutoFocus | 1175 | 47.9 | 68.3 | 31.5 | 50.5 | 60.3 | 6.40 | paper, copied |" in lines
    assert not any("Table 2, VOC" in line for line in lines)
    assert json.loads((tmp_path / "table.json").read_text())["rows"][-1]["AP"] == 65.93


@pytest.fixture
def voc_metrics(tmp_path):
    """What evaluate.py writes with --metric voc; scale 1 saw no object."""
    info = Cost.none(1)._replace(images=2, pixels=np.array([2 * 600**2]))
    run = RunResult([0, 1], [], info, 4.0, [])
    missing = float("nan")
    scores = {"scale1": VocScores(missing, missing, missing, missing, {}), "autofocus": VocScores(84.2, 71.5, 1, 2, {})}
    rows = {name: measure.metrics(measure.Measurement(of, run, 0, Counter())) for name, of in scores.items()}
    path = tmp_path / "voc_metrics.json"
    path.write_text(json.dumps(rows, allow_nan=False))
    return path


def test_rows_of_vocs_metric_make_table_2(tmp_path, tiny_config_file, voc_metrics):
    given = arguments(tiny_config_file, tmp_path, metrics=(f"cells={voc_metrics}",))
    result = table.run(given, load_config(tiny_config_file), silent)
    write(result, tmp_path, "table")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "**Table 2, VOC 2007**" and not any("Table 1" in line for line in lines)
    assert lines[2] == "| method | side | AP at IoU 0.5 | AP at IoU 0.7 | source |"
    assert lines[4] == "| Deformable ConvNet | 705 | 82.3 | 67.8 | paper, copied |"
    assert lines[10:12] == ["| scale1 | 600 | - | - | cells |", "| autofocus | 600 | 84.2 | 71.5 | cells |"]
    assert [row["AP50"] for row in result.rows] == [None] * 8  # which would be COCO's


def test_files_of_both_metrics_fill_both_tables(tmp_path, tiny_config_file, metrics, voc_metrics):
    given = arguments(tiny_config_file, tmp_path, metrics=(f"voc={voc_metrics}", f"coco={metrics}"))
    result = table.run(given, load_config(tiny_config_file), silent)
    one, two = result.markdown.split("**Table 2, VOC 2007**")
    assert one.count(" coco |") == 2 and one.count(" voc |") == 0 and "68.3" in one
    assert two.count(" coco |") == 0 and two.count(" voc |") == 2 and two.count("paper, copied |") == 6
    assert [row["source"] for row in result.rows if "copied" not in row["source"]] == ["coco"] * 2 + ["voc"] * 2


def test_oracle(tmp_path, monkeypatch, tiny_config_file, memory_dataset, truth):
    """Scale 1 alone, scale 2 alone, the pyramid and AutoFocus all find the two objects; only their cost differs."""
    objects = truth([[52, 36, 60, 44], [70, 5, 120, 60]], [0, 0])
    dataset = memory_dataset([np.zeros((64, 128, 3), np.uint8)], [objects], categories=("a",))
    config = load_config(tiny_config_file, ["--stacking.border-tolerance", "0.5"])
    detect = oracle_detect([objects], config.focus_range, 1)
    monkeypatch.setattr(table, "open_images", lambda *_: dataset)
    monkeypatch.setattr(table, "load_detector", lambda *_: detector.Trained(detect, "oracle"))
    result = table.run(arguments(tiny_config_file, tmp_path, voc=True), config, silent)
    ours = {row["method"]: row for row in result.rows if row["source"] == "tiny, val, 1 images"}
    level1, level2, chip = 64 * 128, 128 * 256, 96**2  # one cell, dilated with 3x3 to 48 px, twice as large at scale 2
    pixels = {"scale1": level1, "scale2": level2, "pyramid": level1 + level2, "autofocus": level1 + chip}
    assert {name: round(row["side"] ** 2) for name, row in ours.items()} == pixels
    for row in ours.values():
        assert [row[key] for key in ("AP", "AP50", "voc_ap50", "voc_ap70")] == pytest.approx([100] * 4)
    assert len(result.tables) == 2 and "Table 2, VOC 2007" in result.markdown


def test_the_configs_metric_decides_the_table(tmp_path, monkeypatch, tiny_config_file, memory_dataset, truth):
    objects = truth([[52, 36, 60, 44]], [0])
    dataset = memory_dataset([np.zeros((64, 128, 3), np.uint8)], [objects], categories=("a",))
    config = load_config(tiny_config_file, ["--stacking.border-tolerance", "0.5", "--metric", "voc"])
    detect = oracle_detect([objects], config.focus_range, 1)
    monkeypatch.setattr(table, "open_images", lambda *_: dataset)
    monkeypatch.setattr(table, "load_detector", lambda *_: detector.Trained(detect, "oracle"))
    result = table.run(arguments(tiny_config_file, tmp_path), config, silent)
    ours = [row["voc_ap50"] for row in result.rows if row["source"] != paper.PAPER]
    assert ours == pytest.approx([100] * 4)
    assert len(result.tables) == 1 and result.markdown.startswith("**Table 2, VOC 2007**")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "are not JSON"), ("[1]", "hold no rows"), ("{}", "hold no rows"),
        ('{"scale1": {"AP": 1, "side": 2}}', "row 'scale1' has no AP50"), (None, "cannot be read"),
        ('{"scale1": {"AP50": 1, "side": 2}}', "row 'scale1' has no AP;"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, capsys, tiny_config_file, content, complaint):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_text(content)
    words = ["table", "--config", tiny_config_file, "--output", str(tmp_path), "--metrics", str(path)]
    assert main(["experiment", *words]) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
