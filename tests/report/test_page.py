"""The page of a report: its HTML, what can be read back out of it, hostile names, its size, its script."""

import base64
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

import autofocus_jax.report
from autofocus_jax.report import pictures
from autofocus_jax.report.page import page, write
from autofocus_jax.report.values import (
    LOST,
    MISSED,
    WON,
    Figure,
    FocusMap,
    Mark,
    Pane,
    Photograph,
    Plot,
    Point,
    Report,
    Table,
)
from autofocus_jax.structures import Detections
from tests.report_page import Parsed

FOLDER = Path(autofocus_jax.report.__file__).parent
HOSTILE = ["</script><img src=x onerror=alert(1)>", "\"><svg onload='alert(1)'>", "<!--", "]]>", "{{ 7 * 7 }}",
           "{% raw %}", "a" * 300, "\u202egpj.exe", "\udcff.jpg", "&lt;b&gt;", "\u2028", "${alert(1)}"]  # fmt: skip


def detections(*rows):
    """Detections of rows (x1, y1, x2, y2, score, label)."""
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], values[:, 5].astype(np.int32))


def photograph(name="a.jpg", marks=(), picture=b"jpeg"):
    found = detections((1, 2, 3, 4.25, 0.9, 0), (5, 6, 7, 8, 0.3, 1))
    chips = np.array([[0, 0, 40, 30], [50, 0, 90, 30]], np.float32)
    pane = Pane("scale 1", "2 chips", found, detections((9, 9, 12, 12, 0.5, 1)), chips,
                [FocusMap([0, 0, 90, 60], np.eye(3))], True)  # fmt: skip
    return Photograph(name, (60, 90), picture, [Pane("slices", "", found), pane], marks,
                      [(number, b"crop") for number in range(len(marks))], [([1, 2, 3, 4], 1)])  # fmt: skip


def report(photographs, **fields):
    table = Table("rows", ["", "AP"], [["slices", "10.0"], ["ours", "12.0"]], ["ours"])
    values = {"title": "a report", "categories": ["car", "person"], "figures": [Figure("9.2 times", "fewer pixels")],
              "lines": ["a line"], "tables": [table], "photographs": photographs,
              "plot": Plot("AP", [Point("slices", "slices", 9e6, 10.0), Point("ours", "ours", 1e6, 12.0)])}  # fmt: skip
    return Report(**(values | fields))


def test_every_tag_closes_and_nothing_is_outside():
    text = page(report([photograph()]))
    parsed = Parsed(text)
    assert text.startswith("<!DOCTYPE html>")
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    for word in ("url(", "@import", '"//', "'//"):
        assert word not in text
    assert not [tag for tag, attributes in parsed.tags if tag in ("link", "iframe") or "src" in attributes]
    policy = next(attributes for tag, attributes in parsed.tags if "http-equiv" in attributes)
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    shown = " ".join(parsed.texts)
    for word in ("a report", "9.2 times", "fewer pixels", "a line", "12.0", "pixels per photograph (millions)"):
        assert word in shown
    controls = [attributes for tag, attributes in parsed.tags if tag == "svg" and "viewBox" in attributes]
    assert all(one.get("aria-label") or one.get("aria-hidden") == "true" for one in controls)


def test_what_was_given_can_be_read_back():
    marks = [Mark(LOST, [1, 2, 3, 4], 1, 0.75), Mark(WON, [5, 6, 7, 8], 0, 0.5), Mark(MISSED, [0, 0, 9, 9], 0, 1.0)]
    parsed = Parsed(page(report([photograph(marks=marks)])))
    index, content = parsed.json("index"), parsed.json("photograph-0")
    assert index["categories"] == ["car", "person"]
    assert index["shown"] == dict.fromkeys(("found", "marks", "missed", "truth", "chips", "focus", "removed"), True)
    (known,) = index["photographs"]
    assert (known["name"], known["size"]) == ("a.jpg", [60, 90])
    assert (known["scores"], known["labels"], known["panes"], known["objects"]) == ([0.9, 0.3], [0, 1], 2, [1])
    assert [(one["kind"], one["box"], one["label"], one["score"]) for one in known["marks"]] == [
        ("lost", [1, 2, 3, 4], 1, 0.75), ("won", [5, 6, 7, 8], 0, 0.5), ("missed", [0, 0, 9, 9], 0, 1.0)
    ]  # fmt: skip
    slices, ours = content["panes"]
    assert (slices["title"], slices["chips"], slices["focus"], slices["marked"]) == ("slices", [], [], False)
    assert ours["found"] == {"boxes": [[1, 2, 3, 4.2], [5, 6, 7, 8]], "scores": [0.9, 0.3], "labels": [0, 1]}
    assert ours["removed"] == {"boxes": [[9, 9, 12, 12]], "scores": [0.5], "labels": [1]}
    assert ours["chips"] == [[0, 0, 40, 30], [50, 0, 90, 30]] and ours["marked"]
    assert content["truth"] == [{"box": [1, 2, 3, 4], "label": 1}]
    assert content["picture"] == "data:image/jpeg;base64," + base64.b64encode(b"jpeg").decode()
    assert [one["mark"] for one in content["crops"]] == [0, 1, 2]
    png = np.frombuffer(base64.b64decode(ours["focus"][0]["picture"].partition(",")[2]), np.uint8)
    assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_UNCHANGED)[..., 3], 255 * np.eye(3))


def test_photographs_with_most_differences_come_first():
    lost, missed = Mark(LOST, [0, 0, 9, 9], 0, 0.9), Mark(MISSED, [0, 0, 9, 9], 0, 1.0)
    several = {"none": [], "two": [lost] * 2, "missed": [missed] * 5, "one": [lost]}
    index = Parsed(page(report([photograph(name, marks) for name, marks in several.items()]))).json("index")
    assert [one["name"] for one in index["photographs"]] == ["two", "one", "none", "missed"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name, tmp_path):
    plain = [tag for tag, _ in Parsed(page(report([photograph()]))).tags]
    table = Table(name, [name, name], [[name, name]], [name])
    hostile = report([photograph(name, [Mark(LOST, [1, 2, 3, 4], 0, 0.9)])], title=name, categories=[name, name],
                     figures=[Figure(name, name)], lines=[name], versus=name, tables=[table],
                     plot=Plot(name, [Point(name, name, 1e6, 1.0)]))  # fmt: skip
    text = write(tmp_path / "report.html", hostile).read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert parsed.json("index")["photographs"][0]["name"] == parsed.json("index")["categories"][1] == name
    assert {tag for tag, _ in parsed.tags} <= {*plain, "caption"}
    assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)
    shown = name.encode("utf-8", "replace").decode()
    assert any(shown in one for one in parsed.texts), "the title, the table and the figures"
    assert next(attributes for tag, attributes in parsed.tags if tag == "g")["data-row"] == shown


def test_a_page_of_many_photographs_stays_small():
    """500 photographs in the share of bytes that they get: below 60 MB, with 60 boxes in each of 4 panes."""
    random = np.random.default_rng(0)
    limit = pictures.share(pictures.MOST)
    corners = random.uniform(0, 2000, (60, 4)).astype(np.float32)
    found = Detections(corners, random.random(60).astype(np.float32), np.zeros(60, np.int32))
    one = photograph(picture=random.bytes(limit))._replace(panes=[Pane(str(number), "", found) for number in range(4)])
    text = page(report([one] * pictures.MOST, of_photographs=9000))
    assert 40e6 < len(text.encode()) < 60e6
    assert "500 of 9000 photographs are shown" in text


def test_a_page_of_nothing():
    parsed = Parsed(page(Report("nothing", [])))
    assert parsed.json("index")["photographs"] == [] and not any(tag == "form" and "aria-label" in attributes
                                                                 for tag, attributes in parsed.tags)  # fmt: skip


@pytest.mark.skipif(shutil.which("node") is None, reason="wants node, to read the script")
def test_the_script_is_javascript(tmp_path):
    script = Parsed(page(report([photograph()]))).script()
    (tmp_path / "script.js").write_text(script, encoding="utf-8")
    assert script.strip() == (FOLDER / "report.js").read_text(encoding="utf-8").strip()
    subprocess.run(["node", "--check", str(tmp_path / "script.js")], check=True, capture_output=True)


def test_the_script_makes_no_html_of_text():
    script = (FOLDER / "report.js").read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "import("):
        assert word not in script
