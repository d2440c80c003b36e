"""evaluate.py from the command line to its files, with a detector of a few channels on a folder of three images."""

import collections
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from pycocotools.coco import COCO

from autofocus_jax.command import thresholds
from autofocus_jax.command.main import main
from autofocus_jax.command.panels import write_panels
from autofocus_jax.config import load
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import interval, measure
from autofocus_jax.ledger import locked
from autofocus_jax.structures import Detections, DetectorOutput, TrainState
from autofocus_jax.weights import checkpoint, safetensors
from tests.report_page import Parsed


def evaluate_main(words):
    return main(["evaluate", *words])


ROOT = Path(__file__).parents[2]

CONFIG = """
import math
from autofocus_jax.config import *
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import *

def get_config():
    return Config(
        name="tiny", data=CocoSource("FOLDER"),
        scales=(
            Scale(32, 48, ValidRange(20, math.inf), ChipRule(0.3, 1, 16)),
            Scale(64, 96, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(5, 64, 90), buckets=(Bucket(64, 96, 2),),
        detector=DetectorConfig(
            num_classes=2, backbone=BackboneConfig(units=(1, 1, 1, 1), channels=(4, 8, 8, 8, 8)),
            anchors=AnchorConfig((1.0,), (16, 32)), rpn_channels=4, proposals_before_nms=16, proposals=4,
            roi_channels=4, head_channels=8, focus_channels=4,
        ),
        training=TrainingConfig(steps=10, batch=2, ranges=(ValidRange(20, math.inf), ValidRange(0, 50))),
        stacking=StackingConfig(score_threshold=0.0),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, draw_variables):
    """A COCO folder (val: three images, the second corrupt), a config of it and weights that fit."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "val").mkdir()
    (root / "annotations").mkdir()
    random = np.random.default_rng(0)
    for number in (1, 3):
        cv2.imwrite(str(root / "val" / f"{number}.png"), random.integers(0, 255, (60, 90, 3), np.uint8))
    (root / "val" / "2.png").write_bytes(b"no picture")
    content = {
        "images": [{"id": 10 * n, "file_name": f"{n}.png", "height": 60, "width": 90} for n in (1, 2, 3)],
        "categories": [{"id": 4, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 4, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0},
            {"id": 2, "image_id": 30, "category_id": 7, "bbox": [5, 20, 40, 30], "area": 1200, "iscrowd": 0},
        ],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    (root / "annotations" / "instances_broken.json").write_text(json.dumps(content)[:-30])
    (root / "config.py").write_text(CONFIG.replace("FOLDER", str(root)))
    config = load.load_config(root / "config.py")
    variables = draw_variables(config.detector)
    variables["params"]["focus_head"]["logits"]["bias"][:] = 0, 1000  # in focus everywhere, whatever the threshold
    safetensors.save(root / "weights.safetensors", variables, load.to_dict(config))
    return root


@pytest.fixture
def arguments(folder, tmp_path):
    weights = folder / "weights.safetensors"
    words = ["--config", folder / "config.py", "--weights", weights, "--output", tmp_path / "out"]
    return [str(word) for word in words]


def test_rows_files_and_skipped_images(folder, arguments, tmp_path, capsys):
    # Every cell of a focus map is at or above a threshold of 1e-9, so AutoFocus must cost what the pyramid costs.
    threshold = ["--scales.0.chips.threshold", "1e-9"]
    assert evaluate_main([*arguments, *threshold, "--panels", "1"]) == 0
    printed = capsys.readouterr()
    assert "1 of 3 images failed and were skipped" in printed.out and "2.png" in printed.out and printed.err == ""
    assert "AutoFocus against the pyramid: 1.00 times fewer pixels" in printed.out

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics) == ["scale1", "scale2", "pyramid", "autofocus"]
    for row in metrics.values():
        assert list(row) == ["AP", "AP50", "AP75", "APs", "APm", "APl", "side", "pixels_per_image",
                             "images_per_second", "chips_per_image", "padded_pixels_per_image", "seconds",
                             "device_busy", "compilations"]  # fmt: skip
        assert row["compilations"] == 0 and row["padded_pixels_per_image"] >= row["pixels_per_image"]
        assert all(row["seconds"][stage] > 0 for stage in ("read", "resize", "device", "stacking"))
        assert 0 < row["device_busy"] <= 1
        assert row["side"] == pytest.approx(math.sqrt(row["pixels_per_image"])) and row["images_per_second"] > 0
        assert 0 <= row["AP"] <= 100 and row["APl"] is None
    # 90 x 60 px resized to sides of at most 48 and 96.
    sizes = [48 * 32, 96 * 64]
    assert metrics["scale1"]["pixels_per_image"] == sizes[0] and metrics["scale1"]["chips_per_image"] == [1]
    assert metrics["scale2"]["pixels_per_image"] == sizes[1] and metrics["scale2"]["chips_per_image"] == [1]
    assert metrics["pyramid"]["pixels_per_image"] == sum(sizes) and metrics["pyramid"]["chips_per_image"] == [1, 1]
    times = dict.fromkeys(("images_per_second", "seconds", "device_busy"))
    assert metrics["autofocus"] | times == metrics["pyramid"] | times

    results = json.loads((tmp_path / "out" / "detections_autofocus.json").read_text())
    assert {result["image_id"] for result in results} == {10, 30}
    assert {result["category_id"] for result in results} <= {4, 7}
    table = COCO(str(folder / "annotations" / "instances_val.json"))
    assert len(table.loadRes(results).anns) == len(results)
    details = json.loads((tmp_path / "out" / "details.json").read_text())
    assert [skipped["file_name"] for skipped in details["autofocus"]["skipped"]] == ["2.png"]
    chips = json.loads((tmp_path / "out" / "chips.json").read_text())
    assert chips == {"chips": [[32, 48, 2], [64, 96, 2]], "levels": [[32, 48, 2], [64, 96, 2]]}
    (panel,) = (tmp_path / "out" / "panels").iterdir()
    assert panel.name == "000000_1.png" and cv2.imread(str(panel)).shape[1] > 1000
    parsed = Parsed((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    (name,), (one,) = zip(*parsed.photographs().items())
    assert name == "1.png" and one["truth"] == [{"box": [10, 10, 40, 40], "label": 0}]
    panes = {pane["title"]: pane for pane in one["panes"]}
    assert list(panes) == ["pyramid", "scale 1", "scale 2", "autofocus"]
    scores = [round(result["score"], 3) for result in results if result["image_id"] == 10 and result["score"] >= 0.05]
    assert panes["autofocus"]["found"]["scores"] == pytest.approx(scores, abs=2e-3)
    assert panes["autofocus"]["chips"] == panes["scale 2"]["chips"] == [[0, 0, 90, 60]]
    assert {mark["kind"] for mark in one["marks"]} <= {"missed"}, "both look everywhere, so nothing is lost or won"
    shown = [text.strip() for text in parsed.texts]
    assert "1.0 times" in shown and "0 / 0" in shown and "1 of 2 photographs are shown" in " ".join(shown)


def test_recorded_chips_are_those_before_they_are_made_to_fit(folder, arguments, tmp_path):
    """Buckets are chosen from them, for chips that may be made smaller again."""
    smaller = ["--buckets.0.height", "64", "--buckets.0.width", "80", "--shrink", "0.2"]
    assert evaluate_main([*arguments, *smaller, "--scales.0.chips.threshold", "1e-9", "--panels", "0"]) == 0
    chips = json.loads((tmp_path / "out" / "chips.json").read_text())
    assert chips["chips"] == chips["levels"] == [[32, 48, 2], [64, 96, 2]]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["scale2"]["pixels_per_image"] == 64 * 80


class NothingFound:
    """Stands for a compiled detector where only what happens around it is tested."""

    compilations = 0

    def __init__(self, config, variables, devices):
        self.config, self.buckets = config, config.buckets

    def warm_up(self, progress=None):
        pass

    def __call__(self, chips, placements):
        batch, height, width = chips.pixels.shape[:3]
        classes = self.config.detector.num_classes
        focus = np.zeros((batch, height // 16, width // 16), np.float32)
        return DetectorOutput(np.zeros((batch, 1, 4)), np.zeros((batch, 1, classes)), np.zeros((batch, 1), bool), focus)


@pytest.fixture
def begun(folder, arguments, tmp_path, monkeypatch):
    """The arguments of a finished evaluation of a data set of its own, in tmp_path/data, that may be changed."""
    monkeypatch.setattr("autofocus_jax.inference.compiled.compile_detector", NothingFound)
    shutil.copytree(folder / "val", tmp_path / "data" / "val")
    shutil.copytree(folder / "annotations", tmp_path / "data" / "annotations")
    shutil.copy(folder / "weights.safetensors", tmp_path)
    weights = ["--weights", str(tmp_path / "weights.safetensors"), "--data.root", str(tmp_path / "data")]
    words = [*arguments, *weights, "--panels", "0"]
    assert evaluate_main(words) == 0
    return words


def never(*_, **__):
    raise AssertionError("an image was processed again")


def test_what_is_done_is_not_done_again(begun, tmp_path, monkeypatch):
    """Whatever pieces do not depend on may change, the file of the weights too."""
    monkeypatch.setattr(NothingFound, "__call__", never)
    os.rename(tmp_path / "weights.safetensors", tmp_path / "b.safetensors")
    os.rename(tmp_path / "data", tmp_path / "moved")
    again = [*begun, "--weights", str(tmp_path / "b.safetensors"), "--data.root", str(tmp_path / "moved"),
             "--resume", "--window", "5", "--metric", "voc", "--training.steps", "9"]  # fmt: skip
    assert evaluate_main(again) == 0


def refused(words, says, capsys):
    assert evaluate_main(words) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and says in message and "holds results of other settings or inputs" in message
    assert "run again without --resume, or choose another --output" in message


def test_pieces_of_other_weights_are_refused(begun, tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    variables, metadata = safetensors.load(path)
    variables["params"]["box_head"]["logits"]["bias"] += 1
    safetensors.save(path, variables, metadata["config"])
    refused([*begun, "--resume"], "weights: ", capsys)
    assert evaluate_main(begun) == 0
    assert evaluate_main([*begun, "--resume"]) == 0


def test_pieces_of_a_training_that_went_on_are_refused(folder, begun, tmp_path, capsys):
    """A folder has one name, whatever its newest checkpoint is. What counts is the arrays."""
    config = load.load_config(folder / "config.py")
    variables, _ = safetensors.load(tmp_path / "weights.safetensors")

    def train(step):
        arrays = jax.tree.map(lambda array: array + step, variables)
        state = TrainState(np.int32(step), **arrays, opt_state=(), key=jax.random.key(0))
        with checkpoint.manager(tmp_path / "run") as checkpoints:
            checkpoint.save(checkpoints, state, (0, step), load.to_dict(config))
        (tmp_path / "run" / "config.json").write_text(json.dumps(load.to_dict(config)))

    words = [*begun, "--weights", str(tmp_path / "run")]
    train(0)
    assert evaluate_main([*words, "--resume"]) == 0  # the same arrays, in another place
    train(1)
    refused([*words, "--resume"], "weights: ", capsys)


@pytest.mark.parametrize("change", ["renamed", "added", "removed", "order", "content", "swapped", "limit"])
def test_pieces_of_other_images_are_refused(begun, tmp_path, capsys, change):
    path, more = tmp_path / "data" / "annotations" / "instances_val.json", []
    content = json.loads(path.read_text())
    if change == "renamed":
        os.rename(tmp_path / "data" / "val" / "3.png", tmp_path / "data" / "val" / "0.png")
        content["images"][2]["file_name"] = "0.png"
    elif change == "added":
        content["images"].append({"id": 40, "file_name": "1.png", "height": 60, "width": 90})
    elif change == "removed":
        del content["images"][1]
    elif change == "order":
        content["images"].reverse()
    elif change == "content":
        cv2.imwrite(str(tmp_path / "data" / "val" / "3.png"), np.zeros((60, 90, 3), np.uint8))
    elif change == "swapped":  # for another picture of as many bytes
        file = tmp_path / "data" / "val" / "3.png"
        file.write_bytes(file.read_bytes()[:-4] + b"tail")
    else:
        more = ["--limit", "2"]
    path.write_text(json.dumps(content))
    refused([*begun, *more, "--resume"], "data.", capsys)


def test_settings_that_pieces_depend_on(begun, capsys):
    for word, value, says in (
        ("--shrink", "0.1", "shrink: 0.0 -> 0.1"),
        ("--scales.0.chips.threshold", "0.5", "scales.0.chips.threshold: 0.3 -> 0.5"),
    ):
        refused([*begun, "--resume", word, value], says, capsys)


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_the_users_is_left_alone(begun, tmp_path, capsys, resume):
    words = [*begun, "--output", str(tmp_path / "mine"), *(["--resume"] if resume else [])]
    (tmp_path / "mine" / "pieces" / "scale1").mkdir(parents=True)
    (tmp_path / "mine" / "pieces" / "scale1" / "000000.npz").write_text("years of work")
    assert evaluate_main(words) == 1
    message = capsys.readouterr().err
    assert "pieces was not made by this version of the program: it holds scale1; move the folder away, or" in message
    assert message.count("\n") == 1
    assert (tmp_path / "mine" / "pieces" / "scale1" / "000000.npz").read_text() == "years of work"


def test_a_users_file_among_the_pieces_stays(begun, tmp_path):
    (tmp_path / "out" / "pieces" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "pieces" / "own").mkdir()
    (tmp_path / "out" / "pieces" / "own" / "000000.npz").write_text("mine")
    assert evaluate_main(begun) == 0
    for name in ("notes.txt", "own/000000.npz"):
        assert (tmp_path / "out" / "pieces" / name).read_text() == "mine"


def test_pieces_of_an_older_version_are_one_line(begun, tmp_path, capsys):
    (tmp_path / "out" / "pieces" / "run.json").write_text('{"weights": "runs/demo", "split": "val"}')
    for more in ([], ["--resume"]):
        assert evaluate_main([*begun, *more]) == 1
        message = capsys.readouterr().err
        assert "pieces was made by an older version of this program; remove the folder, or" in message
        assert message.count("\n") == 1


def test_two_evaluations_of_one_workdir(begun, tmp_path, capsys):
    kept = tmp_path / "out" / "pieces" / "scale1" / "000000.npz"
    with locked(tmp_path / "out" / "pieces"):
        assert evaluate_main(begun) == 1
    assert f"pieces is in use by process {os.getpid()}" in capsys.readouterr().err and kept.exists()
    assert evaluate_main(begun) == 0


def test_panels_of_images_of_one_name(tmp_path, memory_dataset, truth, tiny_config):
    """a/1.jpg and b/1.jpg are two images."""
    image = np.zeros((64, 96, 3), np.uint8)
    dataset = memory_dataset([image] * 3, [truth([[1, 1, 30, 30]], [0])] * 3)
    infos = [dataset.info(index)._replace(file_name=name) for index, name in enumerate(["a/1.jpg", "b/1.jpg", "1.png"])]
    dataset.info = infos.__getitem__
    detect = NothingFound(tiny_config, None, None)
    files = write_panels(tmp_path / "panels", Plan.of(tiny_config), detect, dataset, range(3), 3)
    assert len(set(files)) == 3 and sorted(files) == sorted((tmp_path / "panels").iterdir())


def test_nothing_found_and_limit(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("autofocus_jax.inference.compiled.compile_detector", NothingFound)
    assert evaluate_main([*arguments, "--limit", "1", "--panels", "0"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["autofocus"]["AP"] == 0 and metrics["autofocus"]["chips_per_image"] == [1, 0]
    assert json.loads((tmp_path / "out" / "detections_autofocus.json").read_text()) == []
    assert json.loads((tmp_path / "out" / "details.json").read_text())["autofocus"]["images"] == 1


def test_an_interrupt_keeps_the_finished_rows(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("autofocus_jax.inference.compiled.compile_detector", NothingFound)
    whole = measure.measure

    def interrupted(*arguments, **options):
        if options["name"] == "pyramid":
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(measure, "measure", interrupted)
    assert evaluate_main(arguments) == 130
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())) == ["scale1", "scale2"]
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--training.stepz", "3"], "did you mean --training.steps"),
        (["--limit", "0"], "--limit 0"),
        (["--limit", "many"], "--limit"),
        (["--panels", "-1"], "--panels -1"),
        (["--window", "0"], "window"),
        (["--pixels", "5", "--drop", "1"], "give one of them"),
        (["--pixels", "0"], "--pixels 0"),
        (["--drop", "-1"], "--drop -1"),
        (["--drop", "1", "--tune-split", "val"], "choose on other images"),
        (["--drop", "1", "--tune-split", "none"], "instances_none.json"),
        (["--processes", "2"], "no coordinator"),
        (["--weights", "none.safetensors"], "none.safetensors does not exist"),
        (["--weights", str(ROOT)], "holds no checkpoint"),
        (["--weights", str(ROOT / "LICENSE")], "LICENSE"),
        (["--detector.rpn-channels", "8"], "do not fit"),
        (["--split", "broken"], "instances_broken.json"),
        (["--split", "none"], "instances_none.json"),
        (["--data.root", "/nowhere"], "/nowhere"),
        (["--output", str(ROOT / "LICENSE" / "out")], "LICENSE"),
        (["--detector.num-classes", "3"], "3"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(arguments, words, says, monkeypatch, capsys):
    monkeypatch.setattr("autofocus_jax.inference.compiled.compile_detector", NothingFound)
    assert evaluate_main([*arguments, *words]) == 1
    message = capsys.readouterr().err
    assert message.startswith("autofocus evaluate: ") and message.count("\n") == 1 and says in message


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["Cat", "DOG"], None),
        (["dog", "cat"], "category 1 is 'cat' in split"),
        (["cat", "cow"], "in split 'val' and 'cow'"),
    ],
)
def test_classes_of_the_weights_in_another_order(folder, arguments, tmp_path, monkeypatch, capsys, names, says):
    monkeypatch.setattr("autofocus_jax.inference.compiled.compile_detector", NothingFound)
    variables, _ = safetensors.load(folder / "weights.safetensors")
    config = load.to_dict(load.load_config(folder / "config.py"))
    safetensors.save(tmp_path / "named.safetensors", variables, config, {"categories": names})
    code = evaluate_main([*arguments, "--weights", str(tmp_path / "named.safetensors")])
    message = capsys.readouterr().err
    assert code == (says is not None) and (says or "") in message and message.count("\n") <= 1


def test_no_weights_are_shipped_for_a_config(folder, capsys):
    assert evaluate_main(["--config", str(folder / "config.py")]) == 1
    assert "no weights are shipped for config" in capsys.readouterr().err
    assert evaluate_main(["--config", str(folder / "config.py"), "--weights", "x.safetensors"]) == 1
    assert "x.safetensors" in capsys.readouterr().err


def test_not_one_image_can_be_read(folder, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("autofocus_jax.inference.compiled.compile_detector", NothingFound)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_bytes(
        (folder / "annotations" / "instances_val.json").read_bytes()
    )
    assert evaluate_main([*arguments, "--data.root", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "none of 3 images could be processed" in message and message.count("\n") == 1


def test_the_program_itself_says_one_line():
    command = [sys.executable, "evaluate.py", "--config", "configs/none.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "autofocus evaluate: config file configs/none.py does not exist; "
        "give the path of a file that defines get_config()\n"
    )


def test_vocs_metric_has_its_own_columns(arguments, tmp_path, capsys):
    assert evaluate_main([*arguments, "--metric", "voc", "--panels", "0"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for row in metrics.values():
        assert list(row)[:5] == ["AP50", "AP70", "AP50area", "AP70area", "side"]
        assert all(0 <= row[key] <= 100 for key in ("AP50", "AP70", "AP50area", "AP70area"))
    printed = capsys.readouterr().out
    assert "AP70 area" in printed and "AP75" not in printed and "AP50\n" in printed
    details = json.loads((tmp_path / "out" / "details.json").read_text())
    assert set(details["autofocus"]["AP_per_category"]) == {"cat", "dog"}


@pytest.fixture(scope="module")
def many(folder):
    """The images of `folder` that can be read, 70 times each: several pieces."""
    root = folder / "many"
    (root / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    content = json.loads((folder / "annotations" / "instances_val.json").read_text())
    names = [f"{number}.png" for number in range(140)]
    for number, name in enumerate(names):
        (root / "val" / name).write_bytes((folder / "val" / f"{(1, 3)[number % 2]}.png").read_bytes())
    content["images"] = [{"id": n, "file_name": name, "height": 60, "width": 90} for n, name in enumerate(names)]
    content["annotations"] = [dict(content["annotations"][n % 2], id=n + 1, image_id=n) for n in range(140)]
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


def program(arguments, many, workdir, *more):
    words = [*arguments[:4], "--data.root", str(many), "--output", str(workdir), "--panels", "0", *more]
    return subprocess.Popen([sys.executable, "evaluate.py", *words], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def finish(started):
    out, err = started.communicate(timeout=300)
    assert started.returncode == 0 and err == "", err
    return out


def detections(file):
    """The Detections of every image of a detections_*.json."""
    found = collections.defaultdict(list)
    for entry in json.loads(file.read_text()):
        x, y, width, height = entry["bbox"]
        found[entry["image_id"]].append(([x, y, x + width, y + height], entry["score"], entry["category_id"]))
    return {image: Detections(*(np.array(field) for field in zip(*rows))) for image, rows in found.items()}


@pytest.mark.slow
@pytest.mark.numbers
def test_killed_and_resumed_and_shared_by_two_processes_it_finds_the_same(
    arguments, many, tmp_path, check_same_detections
):
    """To the promised tolerance: an image then shares its batches with others. The same run gives the same bytes."""
    result = "detections_autofocus.json"

    def check_same(workdir):
        found = detections(tmp_path / workdir / result)
        assert found.keys() == expected.keys()
        for image, one in found.items():
            check_same_detections(one, expected[image])

    for workdir in ("whole", "again"):
        finish(program(arguments, many, tmp_path / workdir))
    assert (tmp_path / "whole" / result).read_bytes() == (tmp_path / "again" / result).read_bytes()
    expected = detections(tmp_path / "whole" / result)
    assert len(expected) == 140

    for row in ("scale2", "autofocus"):  # killed in the middle of two rows
        killed = program(arguments, many, tmp_path / "killed", *(["--resume"] if row == "autofocus" else []))
        first = tmp_path / "killed" / "pieces" / row / "000000.npz"
        while not first.exists():
            assert killed.poll() is None
            time.sleep(0.005)
        killed.kill()
        killed.communicate()
        assert not (tmp_path / "killed" / result).exists()
    kept = first.stat().st_mtime_ns
    finish(program(arguments, many, tmp_path / "killed", "--resume"))
    check_same("killed")
    assert first.stat().st_mtime_ns == kept

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = [
        program(arguments, many, tmp_path / "shared", "--coordinator", f"127.0.0.1:{port}", "--processes", "2",
                "--process", str(number)) for number in (0, 1)
    ]  # fmt: skip
    printed = [finish(process) for process in shared]
    assert "140 images" in printed[0] and "140 images" not in printed[1]  # the library prints a line of its own
    check_same("shared")


def test_thresholds_are_chosen_for_a_budget(folder, arguments, tmp_path, capsys, monkeypatch):
    """These weights are in focus everywhere, whatever the threshold, so AutoFocus costs what the pyramid costs."""
    annotations = folder / "annotations"
    (annotations / "instances_tune.json").write_bytes((annotations / "instances_val.json").read_bytes())
    if not (folder / "tune").exists():
        (folder / "tune").symlink_to(folder / "val")
    assert evaluate_main([*arguments, "--panels", "0", "--pixels", "60"]) == 1
    err = capsys.readouterr().err
    assert "split 'tune' has 3 images that can be read; thresholds chosen on fewer than 20 are chance" in err
    monkeypatch.setattr(thresholds, "LEAST", 3)
    assert evaluate_main([*arguments, "--panels", "0", "--pixels", "60"]) == 1
    assert "split 'tune' has 2 images that can be read" in capsys.readouterr().err
    monkeypatch.setattr(thresholds, "LEAST", 2)
    monkeypatch.setattr(interval, "GROUPS", 2)
    assert evaluate_main([*arguments, "--panels", "0", "--pixels", "60"]) == 1
    assert "cost 88 px of side an image, and 60 are wanted" in capsys.readouterr().err
    for budget in (["--pixels", "100"], ["--drop", "0"]):
        assert evaluate_main([*arguments, "--panels", "0", *budget]) == 0
        details = json.loads((tmp_path / "out" / "details.json").read_text())
        assert "chosen on 3 images of tune: 88² pixels" in details["autofocus"]["chosen"]
        printed = capsys.readouterr().out
        assert "choosing thresholds on 3 images of tune: at most 12 runs over them" in printed
        assert "chosen on 3 images of tune: 88² pixels" in printed and "below the pyramid's" in printed


def test_rows_that_are_asked_for_and_the_folder_of_the_training(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained").mkdir()
    shutil.copy(folder / "weights.safetensors", tmp_path / "trained" / "model.safetensors")
    (tmp_path / "trained" / "config.json").write_text("{}")
    words = ["--config", str(folder / "config.py"), "--weights", "trained/model.safetensors", "--panels", "0"]
    assert evaluate_main([*words, "--rows", "scale2"]) == 0
    printed = capsys.readouterr().out
    assert "AutoFocus against" not in printed and "AutoFocus saves" not in printed
    assert list(json.loads((tmp_path / "trained/evaluation/metrics.json").read_text())) == ["scale2"]
    assert evaluate_main([*words, "--rows", "scale3"]) == 1
    assert "--rows has 'scale3'; want some of scale1, scale2, pyramid, autofocus" in capsys.readouterr().err
    assert evaluate_main([*words[:2], "--weights", str(folder / "weights.safetensors"), "--rows", "scale1"]) == 0
    assert list((tmp_path / "runs").glob("*/evaluation/metrics.json"))


def test_comparison_line():
    row = {"AP": 40.0, "pixels_per_image": 900.0, "images_per_second": 2.0}
    rows = {"pyramid": row, "autofocus": {"AP": 39.75, "pixels_per_image": 300.0, "images_per_second": 5.0}}
    line = measure.comparison(rows)
    assert line == "AutoFocus against the pyramid: 3.00 times fewer pixels, 2.50 times the images/s, -0.2 AP"
    nothing = {name: {**values, "AP": None} for name, values in rows.items()}
    assert measure.comparison(nothing).endswith("images/s")
