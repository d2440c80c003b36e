"""Writing results: whole files, plain numbers, the same bytes for the same figure."""

import csv
import json
import math

import numpy as np
import pytest

from autofocus_jax.experiments import figure
from autofocus_jax.experiments.result import Result, table, write
from autofocus_jax.structures import AutoFocusError

ROWS = [{"k": np.int64(3), "share": np.float32(0.5), "paper": None}, {"k": 4, "share": math.nan, "paper": 0.25}]


def draw():
    sketch, (axes,) = figure.new()
    figure.line(axes, 0, [1, 2], [3, 4], "ours")
    figure.paper_mark(axes, 1.5, 3.5)
    axes.set(xlabel="k (px)", ylabel="share")
    axes.legend()
    return sketch


def test_four_files(tmp_path):
    files = write(Result({"images": np.int64(2)}, ROWS, (), draw, ("a note",)), tmp_path / "new" / "folder", "name")
    assert [file.name for file in files] == ["name.json", "name.csv", "name.svg", "name.png"]
    content = json.loads(files[0].read_text())
    assert content == {
        "images": 2, "notes": ["a note"],
        "rows": [{"k": 3, "share": 0.5, "paper": None}, {"k": 4, "share": None, "paper": 0.25}],
    }  # fmt: skip
    with files[1].open(newline="") as file:
        assert list(csv.DictReader(file))[1] == {"k": "4", "share": "", "paper": "0.25"}
    assert "k (px)" in files[2].read_text() and files[3].read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in files[0].parent.iterdir()) == sorted(file.name for file in files)


def test_the_same_figure_gives_the_same_file(tmp_path):
    first, second = (figure.save(draw, tmp_path / name)[0].read_bytes() for name in "ab")
    assert first == second


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AutoFocusError, match="cannot be written"):
        write(Result({}, ROWS, (), draw), tmp_path / "file" / "below", "name")


def test_table_shows_what_is_missing_as_a_dash():
    shown = table(
        "title", [{"a": "x", "b": None, "c": 0.5}, {"a": "y", "b": math.nan}], {"a": "{}", "b": "{:.1f}", "c": "{:.0%}"}
    )
    assert [list(column.cells) for column in shown.columns] == [["x", "y"], ["-", "-"], ["50%", "-"]]


def test_columns_of_the_paper_are_left_out_where_it_printed_nothing():
    rows, formats = [{"a": 1, "paper a": None, "b": None}], {"a": "{}", "paper a": "{}", "b": "{}"}
    assert [column.header for column in table("title", rows, formats).columns] == ["a", "b"]
    assert len(table("title", [*rows, {"a": 2, "paper a": 3}], formats).columns) == 3
