"""The tables from written files and from the oracle, whose AP is known."""

import json

import numpy as np
import pytest

from autofocus_jax.config_file import load_config
from autofocus_jax.experiments import detector, table
from autofocus_jax.experiments.__main__ import main
from autofocus_jax.experiments.result import silent, write
from autofocus_jax.focus.oracle import oracle_detect

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
    assert [row["source"] for row in result.rows] == [table.PAPER] * 2 + [table.RELEASE] * 2 + ["demo, val"] * 2
    files = {path.name for path in write(result, tmp_path, "table")}
    assert files == {"table.json", "table.csv", "table.md"}
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| autofocus | 527 | 65.9 | 86.6 | 52.7 | 75.1 | - | 18.36 | demo, val |" in lines
    assert "| AutoFocus | - | 47.9 | 68.3 | - | - | - | 6.40 | paper, copied |" in lines
    assert not any("Table 2, VOC" in line for line in lines)
    assert json.loads((tmp_path / "table.json").read_text())["rows"][-1]["AP"] == 65.93


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


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "are not JSON"), ("[1]", "hold no rows"), ("{}", "hold no rows"),
        ('{"scale1": {"AP": 1, "side": 2}}', "row 'scale1' has no AP50"), (None, "cannot be read"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, capsys, tiny_config_file, content, complaint):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_text(content)
    assert main(["table", "--config", tiny_config_file, "--output", str(tmp_path), "--metrics", str(path)]) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
