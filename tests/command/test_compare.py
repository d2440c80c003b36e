"""autofocus compare: its rows, its options, each of which changes the work, and photographs that cannot be read."""

import json

import cv2
import numpy as np
import pytest

from tests.report_page import Parsed

pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")

ALWAYS = ("--side", "96", "--padding", "0", "0", "0", "--threads", "1", "--canvases", "160")


@pytest.fixture
def compare(autofocus, square_finder, squares, tmp_path):
    """compare(word, …, boxes=True, detector=FILE, photos=PATH) -> (content of comparison.json, what was printed)."""

    def run(*words, boxes=True, detector=None, photos="photos"):
        given = ("--annotations", "boxes.json") if boxes else ()
        model = detector or square_finder()
        code, out, err = autofocus("compare", photos, "--detector", model, *given, *ALWAYS, *words)
        assert (code, err) == (0, ""), err
        return json.loads((tmp_path / "runs/compare/comparison.json").read_text()), out

    return run


def ours(rows):
    """Names of the rows but for those of SAHI's own merging, which are there where its package is installed."""
    return [name for name in rows if "SAHI" not in name]


def test_rows_with_boxes(compare, tmp_path):
    content, out = compare()
    rows = content["rows"]
    assert ours(rows) == [
        "whole 96", "whole 384", "slices 96", "slices 96, ranges", "pyramid", "weak focus 0.02",
        "weak focus 0.02, canvas 160", "perfect focus", "perfect focus, canvas 160",
    ]  # fmt: skip
    assert content["photographs"] == 4 and content["reference"] == "slices 96" and content["skipped"] == []
    whole, all_at_once, sliced = (rows[name] for name in ("whole 96", "whole 384", "slices 96"))
    assert all_at_once["AP"] == 100 and whole["AP"] < 50, "squares of 8 px have 2 px at a side of 96"
    assert whole["canvases_per_image"] == 1 and whole["side"] == pytest.approx((96 * 64) ** 0.5)
    # 4 rows of 5 slices of 96 px, the last ones shifted, and the whole photograph at 96 px
    assert sliced["canvases_per_image"] == 21
    assert sliced["side"] == pytest.approx((20 * 96 * 96 + 96 * 64) ** 0.5)
    weak, perfect = rows["weak focus 0.02"], rows["perfect focus"]
    assert weak["AP"] == perfect["AP"] == 100
    assert perfect["side"] <= weak["side"] < 0.8 * all_at_once["side"] < rows["pyramid"]["side"]
    packed = rows["perfect focus, canvas 160"]
    assert packed["side"] == perfect["side"], "the same is asked for"
    assert packed["net_side"] ** 2 == pytest.approx(packed["canvases_per_image"] * 160**2)
    table = (tmp_path / "runs/compare/comparison.txt").read_text()
    for name in rows:
        assert f"\n {name} " in table or f"\n{name} " in table
    assert table.splitlines()[0].strip() == "squares.onnx, 4 photographs"
    assert "AP50" in out and "perfect focus against" in out
    assert 0.4 < packed["fill"] <= packed["net_side"] ** 2 / packed["side"] ** 2
    assert sliced["net_side"] ** 2 == pytest.approx(21 * 96 * 96), "squares, the photograph at once too"
    assert sliced["fill"] == pytest.approx(sliced["side"] ** 2 / sliced["net_side"] ** 2)
    for name, promise in content["of_promise"].items():
        pixels = {other: (rows[other]["side"] / rows[name]["side"]) ** 2 for other in ("slices 96", "pyramid")}
        speed = {other: rows[name]["images_per_second"] / rows[other]["images_per_second"] for other in pixels}
        assert promise == pytest.approx({other: speed[other] / pixels[other] for other in pixels})
    assert "times the images/s: " in out and "of what the pixels promise" in out
    for row in rows.values():
        assert row["ms"] == pytest.approx(1000 / row["images_per_second"]) and row["ms"] > 0


def test_rows_without_boxes(compare):
    content, out = compare(boxes=False)
    rows = content["rows"]
    assert "perfect focus" not in rows and "AP" not in rows["pyramid"]
    assert (rows["slices 96"]["found"], rows["slices 96"]["extra"]) == (100, 0), "they agree with themselves"
    assert rows["whole 96"]["found"] == 0, "nothing is sure at that side"
    assert 0 < rows["weak focus 0.02"]["found"] <= 100
    assert "found: share of what slices 96 find with a score of 0.5 or more" in out


def test_a_fixed_input_has_no_larger_one_and_canvases_of_its_own(compare, square_finder):
    rows = compare(detector=square_finder(96))[0]["rows"]
    assert ours(rows) == ["whole 96", "slices 96", "slices 96, ranges", "slices 192", "slices 192, ranges", "pyramid",
                          "weak focus 0.02", "perfect focus"]  # fmt: skip
    assert rows["perfect focus"]["net_side"] ** 2 == pytest.approx(rows["perfect focus"]["canvases_per_image"] * 96**2)


def test_what_slices_gain_is_said_from_a_sample(compare):
    content, out = compare("--sample", "2")
    assert "2 photographs say: slices 96 gain +" in out
    assert "AP50 over the whole photograph, for 32 times the work" in out
    assert "all 4 take about" in out and content["photographs"] == 4
    assert "4 photographs say" in compare("--sample", "9")[1]
    assert "slices 96 gain 100% of what they are sure of over the whole photograph" in compare(boxes=False)[1]


@pytest.mark.parametrize(("words", "gone", "new"), [
    (("--larger", "128", "256"), ["whole 384"], ["whole 128", "whole 256"]),
    (("--slices", "64", "128"), ["slices 96"], ["slices 64", "slices 128", "slices 128, ranges"]),
    (("--canvases", "64"), ["perfect focus, canvas 160"], ["perfect focus, canvas 64", "weak focus 0.02, canvas 64"]),
    (("--side", "128"), ["whole 96"], ["whole 128", "slices 128"]),
    (("--focus", "weak:0.5", "weak"), [], ["weak focus 0.5", "weak focus 0.02"]),
])  # fmt: skip
def test_options_that_make_other_rows(compare, words, gone, new):
    rows = compare(*words)[0]["rows"]
    assert set(new) <= set(rows) and not set(gone) & set(rows)


def test_a_higher_score_of_the_focus_looks_at_less(compare):
    rows = compare("--focus", "weak", "weak:0.9")[0]["rows"]
    assert rows["weak focus 0.9"]["side"] < rows["weak focus 0.02"]["side"]
    assert rows["weak focus 0.9"]["AP"] < rows["weak focus 0.02"]["AP"]


def test_limit_and_output(compare, tmp_path):
    compare()
    _, out = compare("--limit", "2", "--output", "other")
    content = json.loads((tmp_path / "other/comparison.json").read_text())
    assert content["photographs"] == 2 and "2 photographs" in out and (tmp_path / "other/comparison.txt").is_file()
    assert json.loads((tmp_path / "runs/compare/comparison.json").read_text())["photographs"] == 4


def test_only_some_classes(compare, tmp_path):
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    both, red = compare()[0]["rows"], compare("--only", "red")[0]["rows"]
    share = np.mean([annotation["category_id"] == 1 for annotation in boxes["annotations"]])
    assert 0 < share < 1
    assert red["perfect focus"]["side"] < both["perfect focus"]["side"], "there is less to look at"
    assert red["perfect focus"]["AP"] == 100


def test_options_of_the_detector_change_what_it_finds(compare):
    assert compare("--score-threshold", "0.1")[0]["rows"]["weak focus 0.02"]["AP"] < 100, "nothing weak is left"
    assert compare("--channels", "RGB")[0]["rows"]["whole 384"]["AP"] < 60, "red is taken for blue"


def test_a_plan_of_one_s_own(compare, tmp_path):
    plan = compare()[0]["plan"]
    stored = {"scales": plan["scales"], "stacking": plan["stacking"], "window": 4}
    stored["scales"][0] |= {"min_side": 192, "max_side": 192}
    (tmp_path / "plan.json").write_text(json.dumps(stored))
    content, out = compare("--plan", "plan.json")
    assert content["plan"]["scales"][0]["max_side"] == 192 and "the plan is that of plan.json" in out
    assert content["plan"]["window"] == 4 and "whole 192" in content["rows"]


def test_the_report_shows_rows_side_by_side(compare, tmp_path):
    content, out = compare()
    parsed = Parsed((tmp_path / "runs/compare/report.html").read_text(encoding="utf-8"))
    photographs, boxes = parsed.photographs(), json.loads((tmp_path / "boxes.json").read_text())
    assert sorted(photographs) == ["1.png", "2.png", "3.png", "4.png"] and "report.html" in out
    for number, one in ((int(name[0]), one) for name, one in photographs.items()):
        panes = {pane["title"]: pane for pane in one["panes"]}
        assert list(panes) == ["whole 96", "slices 96", "pyramid", "weak focus 0.02"]
        objects = [box for box in boxes["annotations"] if box["image_id"] == number]
        assert len(one["truth"]) == len(objects)
        ours = panes["weak focus 0.02"]
        assert len(ours["focus"]) == 1 and ours["chips"] and ours["marked"] and not panes["pyramid"]["chips"]
        sure = np.array(ours["found"]["boxes"])[np.array(ours["found"]["scores"]) >= 0.5]
        for x, y, width, height in (box["bbox"] for box in objects):
            assert np.abs(sure - [x, y, x + width, y + height]).max(axis=1).min() < 2
            inside = [x1 <= x and y1 <= y and x + width <= x2 and y + height <= y2 for x1, y1, x2, y2 in ours["chips"]]
            assert any(inside), "what is small is found in a chip"
    shown = [text.strip() for text in parsed.texts]
    pixels = (content["rows"]["slices 96"]["side"] / content["rows"]["weak focus 0.02"]["side"]) ** 2
    assert f"{pixels:.1f} times" in shown and "fewer pixels than slices 96" in shown
    named = {attributes["data-row"] for tag, attributes in parsed.tags if tag == "tr" and attributes}
    assert named == set(content["rows"])

    stored = {"scales": [content["plan"]["scales"][1]], "stacking": content["plan"]["stacking"], "window": 4}
    (tmp_path / "plan.json").write_text(json.dumps(stored))
    compare("--plan", "plan.json")
    parsed = Parsed((tmp_path / "runs/compare/report.html").read_text(encoding="utf-8"))
    for one in parsed.photographs().values():
        assert [pane["title"] for pane in one["panes"]] == ["whole 96", "slices 96", "pyramid"]
        assert not any(pane["chips"] or pane["focus"] for pane in one["panes"]), "one scale looks nowhere again"


def test_the_report_marks_what_a_focus_that_sees_nothing_loses(compare, tmp_path):
    """Whole photographs at 96 px show squares of 2 px, so a focus from 0.99 on finds nothing that slices find."""
    compare("--focus", "weak:0.99", boxes=False)
    parsed = Parsed((tmp_path / "runs/compare/report.html").read_text(encoding="utf-8"))
    for one in parsed.photographs().values():
        slices, ours = one["panes"][1], one["panes"][3]
        sure = [box for box, score in zip(slices["found"]["boxes"], slices["found"]["scores"]) if score >= 0.5]
        assert ours["title"] == "weak focus 0.99" and ours["chips"] == [] and one["truth"] == []
        assert sorted(mark["box"] for mark in one["marks"]) == sorted(sure) and sure
        assert {mark["kind"] for mark in one["marks"]} == {"lost"} and len(one["crops"]) == len(sure)
    assert "0% " not in parsed.texts and "0%" in [text.strip() for text in parsed.texts]


def test_photographs_that_cannot_be_read_are_named_and_skipped(compare, squares):
    (squares / "2.png").write_bytes(b"nonsense")
    content, out = compare()
    assert [one["file_name"] for one in content["skipped"]] == ["2.png"] and content["photographs"] == 3
    assert "1 photographs failed and were skipped:" in out and "2.png" in out
    content, _ = compare(boxes=False)
    assert [one["file_name"] for one in content["skipped"]] == ["2.png"] and content["photographs"] == 3


def test_a_sample_that_cannot_be_read(compare, squares):
    (squares / "1.png").write_bytes(b"nonsense")
    content, out = compare("--sample", "1")
    assert content["photographs"] == 3 and content["sample"] is None and "photographs say" not in out


def test_photographs_no_larger_than_the_input(compare, tmp_path):
    (tmp_path / "small").mkdir()
    cv2.imwrite(str(tmp_path / "small" / "a.png"), np.zeros((64, 64, 3), np.uint8))
    content, out = compare(boxes=False, photos="small")
    assert "one scale: photographs of 64 px are no larger" in out
    assert ours(content["rows"]) == ["whole 96", "slices 96", "pyramid"]


@pytest.mark.parametrize(("words", "says"), [
    ((), "PHOTOS is missing"),
    (("photos",), "--detector is missing"),
    (("none", "--detector", "MODEL"), "none does not exist"),
    (("photos", "--detector", "none.onnx"), "none.onnx does not exist"),
    (("photos", "--detector", "MODEL", "--sample", "0"), "--sample must be at least 1, got 0"),
    (("photos", "--detector", "MODEL", "--slices", "64", "0"), "--slices must be at least 16, got 0"),
    (("photos", "--detector", "MODEL", "--focus", "strong"), "there is no focus 'strong'; want one of weak"),
    (("photos", "--detector", "MODEL", "--focus", "weak:2"), "must be in [0, 1], got '2' in weak:2"),
    (("photos", "--detector", "MODEL", "--focus", "weak", "weak:0.02"), "two focuses are weak focus"),
    (("photos", "--detector", "MODEL", "--plan", "none.json"), "plan none.json cannot be read"),
    (("photos", "--detector", "MODEL", "--only", "blue"), "there is no class 'blue'"),
    (("photos/1.png", "--detector", "MODEL", "--annotations", "boxes.json"), "PHOTOS is the one folder"),
    (("photos", "--detector", "MODEL", "--annotations", "boxes.json", "--only", "blue"), "have no class 'blue'"),
    (("photos", "--detector", "MODEL", "--annotations", "none.json"), "none.json"),
])  # fmt: skip
def test_options_that_are_wrong(autofocus, square_finder, squares, words, says):
    words = [square_finder() if word == "MODEL" else word for word in words]
    code, _, err = autofocus("compare", *words)
    assert code == 1 and err.startswith("autofocus compare: ") and says in err and err.count("\n") == 1, err
