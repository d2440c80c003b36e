"""A file that grows image by image is readable wherever its disk ends."""

import csv
import io
import json
import subprocess
import sys

import pytest

from autofocus_jax.command.growing_file import GrowingFile
from autofocus_jax.files import WriteError

WRITE = """
import json, resource, sys
from pathlib import Path
import numpy as np
from autofocus_jax.command.writers import CocoWriter, CsvWriter, Entry
from autofocus_jax.files import WriteError
from autofocus_jax.inference.result import Result

path, kind, images, limits = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
boxes, labels = np.array([[1, 2, 30, 40], [5, 6, 7, 8]], np.float32), np.array([0, 1], np.int32)
result = Result(boxes, np.array([0.5, 0.25], np.float32), labels, ("cat", "dog"), (60, 90), 1, 1)
for limit in limits:
    file = path / f"{limit}.{kind}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    said = ""
    try:
        writer = CocoWriter(file, ("cat", "dog")) if kind == "json" else CsvWriter(file)
        try:
            for number in range(images):
                writer.add(Entry(number + 1, f"{number}", f"{number}.jpg", result, None, None))
        finally:
            writer.close()
    except WriteError as error:
        said = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (path / f"{limit}.txt").write_text(said)
"""


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_full_disk_at_any_place(tmp_path, kind):
    """The limit on a file's size stands for a full disk; it cuts the file at every kind of place."""
    images, limits = 12, [*range(0, 400, 37), *range(400, 3200, 53), 10**6]
    command = [sys.executable, "-c", WRITE, str(tmp_path), kind, str(images), json.dumps(limits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    held = []
    for limit in limits:
        file, said = tmp_path / f"{limit}.{kind}", (tmp_path / f"{limit}.txt").read_text()
        if not file.exists():
            assert limit < 200 and "cannot be written" in said
            continue
        assert file.stat().st_size <= limit
        text = file.read_bytes().decode()
        if kind == "json":
            content = json.loads(text)
            count = len(content["images"])
            assert [image["id"] for image in content["images"]] == list(range(1, count + 1))
            found = content["annotations"]
            assert [box["image_id"] for box in found] == [n for n in range(1, count + 1) for _ in "ab"]
            assert [box["id"] for box in found] == list(range(1, 2 * count + 1))
            assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            count = len(rows) // 2
            assert [row["image"] for row in rows] == [f"{n}.jpg" for n in range(count) for _ in "ab"]
            assert all(row["y2"] for row in rows)
        assert said == "" if count == images else f"it holds the first {count} images" in said and "\\n" not in said
        held.append(count)
    assert held == sorted(held) and held[-1] == images and len(set(held)) > 8
    assert {path.suffix for path in tmp_path.iterdir()} == {f".{kind}", ".txt"}


def test_closing_twice_and_after_the_end(tmp_path):
    file = GrowingFile(tmp_path / "a", "[", lambda count: f"{count}]")
    file.add("x")
    file.close()
    file.close()
    assert (tmp_path / "a").read_text() == "[x1]"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file/a cannot be written"):
        GrowingFile(tmp_path / "file" / "a", "")


def test_names_that_are_not_utf8(tmp_path):
    file = GrowingFile(tmp_path / "a", "")
    file.add("caf\udce9\n")
    file.close()
    assert (tmp_path / "a").read_text(encoding="utf-8") == "caf\\udce9\n"
