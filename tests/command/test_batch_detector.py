"""`autofocus batch --detector`: the rows that `detect` finds, what a job depends on, mistakes; a run on Ray (slow)."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")
import pyarrow.dataset

from autofocus_jax.batch import cluster, job, plan
from autofocus_jax.batch.storage import resolved
from autofocus_jax.command.batch_detector import foreign_job
from autofocus_jax.command.options.detector import DetectorOptions
from autofocus_jax.foreign.found import ForeignError

ROOT = Path(__file__).parents[2]
SETTINGS = {"padding": (0, 0, 0), "side": 96}
WORDS = ("--padding", "0", "0", "0", "--side", "96")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(model, photos="photos", output="out", score=0.5, thresholds=(), piece=3, **options):
    """The job of a detector, its payload, the planned input, and what was said."""
    planned, said = plan.plan(str(photos), piece), []
    detector = DetectorOptions(detector=str(model), **{**SETTINGS, **options})
    make = foreign_job(detector, (), thresholds, score, False)
    return *make(planned, resolved(str(output)), said.append), planned, said


def do(model, monkeypatch, *, gone=None, **settings):
    """The rows of the job of a detector, done in this process by a worker that Ray did not start."""
    one, payload, planned, _ = made(model, **settings)
    one = pickle.loads(pickle.dumps(one))
    if gone is not None:
        Path(gone).unlink()
    monkeypatch.setattr(cluster, "_ray", lambda: types.SimpleNamespace(get=list))
    monkeypatch.setattr(cluster, "limit", lambda _: None)
    worker = cluster._Actor(one, [payload], cluster.Share(1, 1, 1, 0), None)
    job.open_output(one, planned, 3)
    for piece in planned.pieces:
        assert worker.do(piece).images == len(piece.files)
    return rows(settings.get("output", "out"))


def rows(folder):
    return pyarrow.dataset.dataset(str(folder), format="parquet").to_table().to_pylist()


def detected(autofocus, model, *words, photos="photos"):
    """What `autofocus detect` finds: name of the image -> (boxes xywh, scores, labels from 0)."""
    code, _, err = autofocus("detect", photos, "--detector", model, *WORDS, "--write", "coco", *words)
    assert (code, err) == (0, "")
    content = json.loads(Path("runs/detect/detections.json").read_text())
    found = {image["file_name"]: [] for image in content["images"]}
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for one in content["annotations"]:
        found[names[one["image_id"]]].append((*one["bbox"], one["score"], one["category_id"] - 1))
    return found


@pytest.mark.parametrize(("options", "words"), [
    ({}, ()),
    ({"focus": "none"}, ("--focus", "none")),
    ({"focus_score": 0.03, "only": ("green",)}, ("--focus-score", "0.03", "--only", "green")),
    ({"canvas": (160, 160), "packed": False}, ("--canvas", "160", "160", "--no-packed")),
])  # fmt: skip
def test_rows_are_what_detect_finds(autofocus, square_finder, squares, monkeypatch, options, words):
    check_rows(do(square_finder(), monkeypatch, **options), detected(autofocus, square_finder(), *words))


def check_rows(there, wanted):
    """Rows of a job against what `detected` returned."""
    assert [row["id"] for row in there] == sorted(wanted) and sum(map(len, wanted.values())) > 0
    for row in there:
        boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
        boxes[:, 2:] -= boxes[:, :2]
        ours = [(*box, score, label) for box, score, label in zip(boxes.tolist(), row["scores"], row["labels"])]
        assert sorted(ours) == pytest.approx(np.array(sorted(wanted[row["id"]])), abs=2e-3) or not ours
        assert len(ours) == len(wanted[row["id"]]) and row["error"] is None


def test_workers_need_no_file_of_this_machine(square_finder, squares, tmp_path, monkeypatch):
    names = tmp_path / "names.txt"
    names.write_text("rouge\nvert\n")
    model = shutil.copy(square_finder(), tmp_path / "sent.onnx")
    assert len(do(model, monkeypatch, names=str(names), gone=model)) == 4
    schema = pyarrow.dataset.dataset("out", format="parquet").schema
    assert json.loads(schema.metadata[b"categories"]) == ["rouge", "vert"]


def test_a_focus_network_is_sent_along(autofocus, square_finder, squares, bright_network, tmp_path, monkeypatch):
    model, weights = square_finder(), shutil.copy(bright_network(gain=20, bias=-10), tmp_path / "sent.safetensors")
    wanted = detected(autofocus, model, "--focus", "network", "--focus-weights", weights, "--focus-score", "0.03")
    there = do(model, monkeypatch, gone=weights, focus="network", focus_weights=weights, focus_score=0.03)
    check_rows(there, wanted)


def test_a_focus_network_decides(square_finder, squares, bright_network, tmp_path, monkeypatch):
    model, blind = square_finder(), bright_network(gain=0, bias=-200)
    count = lambda there: sum(len(row["scores"]) for row in there)  # noqa: E731
    alone = do(model, monkeypatch, focus="network", focus_weights=str(blind), output="network")
    joined = do(model, monkeypatch, focus="either", focus_weights=str(blind), output="either")
    assert count(alone) == 0 and count(joined) == count(do(model, monkeypatch, output="weak")) == 8
    jobs = [made(model, focus="network", focus_weights=str(weights))[0]
            for weights in (blind, shutil.copy(blind, tmp_path / "moved.safetensors"), bright_network())]  # fmt: skip
    assert jobs[0].model == jobs[1].model != jobs[2].model and len({one.settings for one in jobs}) == 1
    either = made(model, focus="either", focus_weights=str(blind))[0]
    assert either.model == jobs[0].model and either.settings != jobs[0].settings


def test_what_a_job_depends_on(square_finder, squares, tmp_path):
    model = square_finder()
    one = made(model)[0]
    key = lambda *given, **options: (made(*given, **options)[0].model, made(*given, **options)[0].settings)  # noqa: E731
    moved = shutil.copy(model, tmp_path / "moved.onnx")
    same = one.model, one.settings
    assert key(moved) == key(model, threads=2) == same
    assert key(square_finder(96))[0] != one.model
    for options in ({"thresholds": (0.3,)}, {"score": 0.1}, {"only": ("red",)}, {"focus_size": 20.0}, {"side": 128}):
        assert key(model, **options)[0] == one.model and key(model, **options)[1] != one.settings, options
    cv2.imwrite(str(squares / "0.png"), np.zeros((600, 900, 3), np.uint8))
    said = made(model)[3]
    assert said[0].startswith("2 scales of 96, 384 px") and "are 384 to 900 px and share one plan" in said[1]


def test_an_image_that_fails_is_a_row_that_says_why(square_finder, squares):
    one, payload, planned, _ = made(square_finder(), piece=9)
    worker = one.load(payload, 1)
    find = worker.detect.detector.find

    def refuses(crops):
        if crops[0].max() == 13:
            raise ForeignError("no good")
        return find(crops)

    worker.detect.detector = worker.detect.detector._replace(find=refuses)
    cv2.imwrite(str(squares / "3.png"), np.full((256, 384, 3), 13, np.uint8))
    (squares / "4.png").write_bytes(b"no picture")
    job.open_output(one, planned, 9)
    done = job.do_piece(worker, one, planned.pieces[0])
    errors = {row["id"]: row["error"] for row in rows("out") if row["error"]}
    assert done.errors == 2 and errors["3.png"] == "no good" and "4.png" in errors["4.png"]


@pytest.mark.parametrize(("words", "says"), [
    (("--weights", "demo"), "--weights and --detector exclude each other; give one of them"),
    (("--config", "c.py"), "--config goes with --weights; a detector takes --plan"),
    (("--focus", "none", "--threshold", "0.1"), "--focus none looks everywhere and has no threshold"),
    (("--scales", "64x96"), "--side is for a plan that is proposed"),
    (("--plan", "none.json"), "--side is for a plan that is proposed"),
    (("--focus", "either"), "--focus either and --focus-weights do not go together"),
    (("--focus", "network", "--focus-weights", "none.safetensors"), "do not exist"),
])  # fmt: skip
def test_mistakes_are_one_line(autofocus, square_finder, squares, words, says):
    code, _, err = autofocus("batch", "photos", "out", "--detector", square_finder(), *WORDS, *words)
    assert code == 1 and err.startswith("autofocus batch: ") and says in err and err.count("\n") == 1, err


def test_options_of_a_detector_without_one(autofocus, squares):
    code, _, err = autofocus("batch", "photos", "out", "--weights", "demo", "--focus", "none")
    assert code == 1 and "--focus goes with --detector; leave it out" in err
    code, _, err = autofocus("batch", "photos", "out")
    assert code == 1 and "--weights is missing" in err and "--detector with an .onnx file" in err


@pytest.mark.slow
def test_on_a_cluster(autofocus, square_finder, squares, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    (squares / "4.png").write_bytes(b"no picture")
    model = square_finder()
    command = [sys.executable, "-m", "autofocus_jax", "batch", "photos", "found", "--detector", model, *WORDS,
               "--score", "0.5", "--piece", "2", "--workers", "1"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUTOFOCUS_CACHE": str(tmp_path / "cache")}
    go = lambda: subprocess.run([str(word) for word in command], env=environment, cwd=tmp_path,  # noqa: E731
                                capture_output=True, text=True, timeout=900)  # fmt: skip
    done = go()
    assert done.returncode == 3 and "4 images; 1 of them failed, their rows say why" in done.stdout, done
    wanted = detected(autofocus, model)
    there = rows("found")
    assert {row["id"]: len(row["scores"] or ()) for row in there} == {
        **{name: len(found) for name, found in wanted.items()}, "4.png": 0}  # fmt: skip
    again = go()
    assert again.returncode == 3 and "2 of 2 pieces are there already" in again.stdout
    shutil.copy(square_finder(96), model)
    other = go()
    assert other.returncode == 1 and "holds the results of another job (model: " in other.stderr
