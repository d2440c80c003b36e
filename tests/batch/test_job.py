"""A job without a cluster: parts, resuming, other jobs, workers that died; against the engine that evaluate.py runs."""

import dataclasses
import json
from functools import partial

import numpy as np
import pyarrow.dataset
import pytest

from autofocus_jax.batch import job, plan
from autofocus_jax.batch.job import JobError
from autofocus_jax.batch.table import Counts
from autofocus_jax.config.load import to_dict
from autofocus_jax.config.stored import from_dict
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.inference.stored import SOURCES
from autofocus_jax.structures import Detections

pytestmark = pytest.mark.numbers

BAD = 5


def rows(folder):
    found = pyarrow.dataset.dataset(str(folder), format="parquet").to_table().to_pylist()
    return {row["id"]: row for row in found} if len({row["id"] for row in found}) == len(found) else None


def parts(folder):
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def test_results_are_those_of_evaluate(
    pictures, contents, do_all, tmp_path, config, tiny_variables, memory_dataset, truth
):
    from autofocus_jax.data.image import decode_image

    do_all(pictures, tmp_path / "out")
    found = rows(tmp_path / "out")
    good = [number for number in range(10) if number != BAD]
    images = [decode_image(contents[number], "") for number in good]
    dataset = memory_dataset(images, [truth()] * len(images))
    detect = compile_detector(config, tiny_variables)
    streamed = partial(engine.stream, detect=detect, plan=Plan.of(config))
    expected = engine.run(dataset, range(len(images)), streamed)
    assert sum(len(one.scores) for one in expected.detections) > 0
    for number, one in zip(good, expected.detections):
        row = found[f"{'below/' if number < 3 else ''}{number}.png"]
        assert np.array_equal(np.array(row["boxes"], np.float32).reshape(-1, 4), one.boxes)
        assert np.array_equal(np.array(row["scores"], np.float32), one.scores)
        assert row["labels"] == one.labels.tolist() and row["error"] is None
    assert "cut off" in found[f"{BAD}.png"]["error"] and len(found) == 10


@pytest.fixture(scope="module")
def check_same_rows(check_same_detections):
    """check_same_rows(found, expected): what was detected to the promised tolerance, and exactly all the rest."""

    def check(found, expected):
        assert found.keys() == expected.keys()
        for name, row in found.items():
            one, other = dict(row), dict(expected[name])
            detections = [
                Detections(*(np.array(part.pop(field) or ()) for field in Detections._fields)) for part in (one, other)
            ]
            check_same_detections(*detections)
            assert one == other

    return check


def test_the_size_of_a_piece_changes_no_row(pictures, do_all, tmp_path, check_same_rows):
    for size in (1, 3, 100):
        do_all(pictures, tmp_path / str(size), size)
    for size in (1, 3):
        check_same_rows(rows(tmp_path / str(size)), rows(tmp_path / "100"))
    assert len(list((tmp_path / "3").glob("*.parquet"))) == 4


def test_what_pieces_came_to(pictures, do_all, tmp_path):
    done = do_all(pictures, tmp_path / "out")
    found = rows(tmp_path / "out").values()
    assert [entry.number for entry in done] == [0, 1, 2] and sum(entry.images for entry in done) == 10
    assert sum(entry.errors for entry in done) == 1
    assert sum(entry.found for entry in done) == sum(len(row["scores"] or ()) for row in found)
    assert sum(entry.pixels for entry in done) == sum(sum(row["pixels"] or ()) for row in found)


def test_a_run_goes_on_with_what_is_missing(pictures, do_all, tmp_path):
    do_all(pictures, tmp_path / "out", 3)
    whole = parts(tmp_path / "out")
    (tmp_path / "out" / "part-00000002.parquet").unlink()
    kept = (tmp_path / "out" / "part-00000001.parquet").stat().st_mtime_ns
    assert [entry.number for entry in do_all(pictures, tmp_path / "out", 3)] == [2]
    assert parts(tmp_path / "out") == whole
    assert (tmp_path / "out" / "part-00000001.parquet").stat().st_mtime_ns == kept
    assert do_all(pictures, tmp_path / "out", 3) == []


def test_another_job_is_refused(pictures, do_all, make_job, tmp_path):
    out = tmp_path / "out"
    do_all(pictures, out, 3)
    with pytest.raises(JobError, match=r"piece: 3 -> 4"):
        do_all(pictures, out, 4)
    with pytest.raises(JobError, match="settings: "):
        do_all(pictures, out, 3, score=0.5)
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(JobError, match=r"holds other files \(other\.txt"):
        job.open_output(make_job(plan.plan(str(pictures), 3), tmp_path), plan.plan(str(pictures), 3), 3)
    (out / job.MANIFEST).write_text("no JSON")
    with pytest.raises(JobError, match="damaged"):
        do_all(pictures, out, 3)


def test_an_input_that_changed_is_refused(pictures, do_all, contents, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_bytes(contents[1])
    do_all(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "2.png").write_bytes(contents[2])
    with pytest.raises(JobError, match="files: "):
        do_all(tmp_path / "in", tmp_path / "out")


def test_counts_of_parts(pictures, do_all, make_job, tmp_path):
    do_all(pictures, tmp_path / "out", 3)
    made = make_job(plan.plan(str(pictures), 3), tmp_path / "out")
    assert job.count_parts(made, {0, 1, 2, 3}) == (Counts(10, 1), set())
    assert job.count_parts(made, {3}) == (Counts(1, 0), set()) and job.count_parts(made, set()) == (Counts(0, 0), set())


@pytest.mark.parametrize("where", ["empty", "short", "zeros", "gone"])
def test_parts_that_a_power_cut_left(pictures, do_all, make_job, tmp_path, where):
    do_all(pictures, tmp_path / "out", 3)
    made = make_job(plan.plan(str(pictures), 3), tmp_path / "out")
    path = tmp_path / "out" / job.part_name(1)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "short": whole[:-9], "zeros": bytes(len(whole)), "gone": b""}[where])
    if where == "gone":
        path.unlink()
    assert job.count_parts(made, {0, 1, 2, 3}) == (Counts(7, 1), {1})


def test_paths_that_lead_elsewhere_are_part_of_the_job(pictures, make_job, tmp_path):
    planned = plan.plan(str(pictures), 3)
    made = make_job(planned, tmp_path / "out")
    trusting = dataclasses.replace(made, anywhere=True)
    job.open_output(made, planned, 3)
    with pytest.raises(JobError, match="paths: None -> anywhere"):
        job.open_output(trusting, planned, 3)
    job.open_output(dataclasses.replace(trusting, output=str(tmp_path / "other")), planned, 3)
    with pytest.raises(JobError, match="paths: anywhere -> None"):
        job.open_output(dataclasses.replace(made, output=str(tmp_path / "other")), planned, 3)


def test_settings_follow_what_results_depend_on(config):
    base = job.settings_hash(config, 0.0)
    stored = from_dict(json.loads(json.dumps(to_dict(dataclasses.replace(config, data=CocoSource("no"))))), SOURCES, "")
    assert job.settings_hash(stored, 0) == base
    assert job.settings_hash(dataclasses.replace(config, window=1, name="other"), 0.0) == base
    assert base not in (
        job.settings_hash(config, 0.1),
        job.settings_hash(dataclasses.replace(config, shrink=0.1), 0.0),
    )


def test_the_manifest_is_passed_over_by_readers(pictures, do_all, tmp_path):
    do_all(pictures, tmp_path / "out")
    assert json.loads((tmp_path / "out" / job.MANIFEST).read_text())["pieces"] == 3
    assert len(rows(tmp_path / "out")) == 10


def test_a_store_is_like_a_disk(s3, pictures, contents, do_all, tmp_path):
    for number, content in enumerate(contents):
        with s3.open_output_stream(f"bucket/in/{'below/' if number < 3 else ''}{number}.png") as file:
            file.write(content)
    do_all(pictures, tmp_path / "out", 4)
    do_all("s3://bucket/in", "s3://bucket/out", 4)
    for name, content in parts(tmp_path / "out").items():
        with s3.open_input_stream(f"bucket/out/{name}") as file:
            assert file.read() == content
    s3.delete_file("bucket/out/part-00000001.parquet")
    assert [entry.number for entry in do_all("s3://bucket/in", "s3://bucket/out", 4)] == [1]


def test_score_leaves_out_the_weaker(pictures, do_all, tmp_path):
    do_all(pictures, tmp_path / "all")
    everything = rows(tmp_path / "all")
    limit = float(np.median([score for row in everything.values() for score in row["scores"] or ()]))
    do_all(pictures, tmp_path / "some", score=limit)
    for name, row in rows(tmp_path / "some").items():
        scores = everything[name]["scores"]
        assert row["scores"] == (None if scores is None else [score for score in scores if score >= limit])
