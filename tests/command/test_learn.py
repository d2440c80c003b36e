"""autofocus learn: from what a detector finds and from boxes, its promise, its memory, and what it refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus_jax.command import learn_labels, learn_plan
from autofocus_jax.command.learn_labels import Known, highest, judge, values
from autofocus_jax.command.plan_file import plan_text, read_plan
from autofocus_jax.config import ConfigError
from autofocus_jax.foreign.proposal import of_scales
from autofocus_jax.inference.focus_network import read_network
from autofocus_jax.ledger import locked, weights_digest
from autofocus_jax.structures import Detections, GroundTruth, Scale, ValidRange
from autofocus_jax.weights import safetensors

pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")


@pytest.fixture
def photographs(tmp_path):
    """photos/ of sixteen black images of 192x384 with one white square of 8 px, and boxes.json of it."""
    random, images, annotations = np.random.default_rng(3), [], []
    (tmp_path / "photos").mkdir()
    for number in range(1, 17):
        image = np.zeros((192, 384, 3), np.uint8)
        x, y = 8 * int(random.integers(48)), 8 * int(random.integers(24))
        image[y : y + 8, x : x + 8, 2] = 255
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "height": 192, "width": 384})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, 8, 8], "area": 64})
    categories = [{"id": 1, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path / "photos"


@pytest.fixture
def learn(autofocus, square_finder, photographs, bright_network):
    """learn(word, …) -> (exit code, stdout, stderr)."""
    model = square_finder()
    given = ("--side", "96", "--padding", "0", "0", "0", "--threads", "1", "--share", "1", "--steps", "2")
    bright = bright_network(gain=20, bias=-10)

    def run(*words, initial=bright):
        return autofocus("learn", photographs, "--detector", model, *given, "--initial", initial, *words)

    return run


def test_learned_from_the_detector(learn, autofocus, square_finder, tmp_path, monkeypatch):
    code, out, err = learn("--miss", "0.25", "--learning-rate", "1e-6")
    assert (code, err) == (0, "")
    assert "to learn from: 10 photographs, 10 objects, 10 of which need a second look" in out
    assert "kept apart: 6 photographs, 6 objects, 6 of which need a second look" in out
    assert "training, step 1/2: focus " in out and "training, step 2/2: focus " in out
    assert "at most 25.0%, on average" in out and "times fewer pixels" in out
    assert "- the finest scale is 384 px" in out and "- scale 1 is 96 px" in out and "looked again from" not in out
    plan = read_plan("focus.json")
    assert [scale.max_side for scale in plan.scales] == [96, 384] and plan.scales[0].chips.threshold == 0.02
    network = read_network("focus.safetensors")
    facts = safetensors.load("focus.safetensors")[1]
    assert network.threshold == facts["threshold"] and facts["kept_apart"] == 6
    assert facts["missed"] <= (0.25 * 7 - 1) / 6 and facts["saving"] > 1.2
    # What the detector found is kept, and so is the training: neither is done again.
    monkeypatch.setattr(learn_labels, "find_at", lambda *_: pytest.fail("asked again"))
    code, out, _ = learn("--miss", "0.25", "--learning-rate", "1e-6")
    assert code == 0 and "going on from step 2" in out and "step 2/2" not in out
    again = read_network("focus.safetensors")
    assert again.threshold == network.threshold and weights_digest(again.variables) == weights_digest(network.variables)
    code, out, _ = learn("--miss", "0.25", "--learning-rate", "1e-6", "--seed", "1")
    assert code == 0 and "going on" not in out and "step 2/2" in out, "another training begins anew"
    code, _, err = learn("--miss", "0.25", "--score-threshold", "0.2")
    assert code == 1 and "holds results of other settings" in err and "give another --work" in err


def test_a_plan_of_one_s_own(learn):
    Path("own.json").write_text(plan_text(of_scales([192, 384], 384, 0.1)))
    code, out, err = learn("--miss", "0.25", "--learning-rate", "1e-6", "--plan", "own.json")
    assert (code, err) == (0, "") and "the finest scale is" not in out
    plan = read_plan("focus.json")
    assert [scale.max_side for scale in plan.scales] == [192, 384] and plan.scales[0].chips.threshold == 0.02
    kept = json.loads(Path("runs/learn/detections/ledger.json").read_text())
    assert kept["sides"] == [192, 384], "no other side is looked at"


def seen(boxes, longer, sides, legible):
    """Detections of boxes at each side: surely where they have `legible` level px or more, weakly elsewhere."""
    sizes = np.array([box[2] - box[0] for box in boxes])
    scores = [np.where(sizes * side / longer >= legible, 0.9, 0.05).astype(np.float32) for side in sides]
    return [Detections(np.array(boxes, np.float32), score, np.zeros(len(boxes), np.int32)) for score in scores]


def test_scales_are_chosen_by_what_is_found(memory_dataset, truth):
    """Objects of 20 px in photographs of 768 px; what is legible from 10 px on is found at 384 px as well as at 768."""
    dataset = memory_dataset([np.zeros((512, 768, 3), np.uint8)] * 6, [truth()] * 6)
    sides, said = (96, 192, 384, 768), []
    boxes = [(x, y, x + 20, y + 20) for x, y in ((10, 10), (300, 200), (700, 400))]
    choose = lambda legible: learn_plan.choose(  # noqa: E731
        dataset, sides, [(index, seen(boxes, 768, sides, legible)) for index in (0, 2, 3, 5)], said.append)  # fmt: skip
    plan = choose(10)
    assert [scale.max_side for scale in plan.scales] == [96, 384] and plan.scales[0].chips.threshold == 0.02
    assert said[0].startswith("- the finest scale is 384 px") and plan.scales[1].valid.holds(20)
    assert [scale.max_side for scale in choose(20).scales][1] == 768
    with pytest.raises(ConfigError, match="wants a plan of two scales, got 1"):
        choose(2)


def test_learned_from_boxes(learn, monkeypatch):
    words = ("--miss", "0.25", "--learning-rate", "1e-6")
    with monkeypatch.context() as patch:
        patch.setattr(learn_labels, "find_at", lambda *_: pytest.fail("the detector runs"))
        code, out, err = learn("--annotations", "boxes.json", *words)
    assert (code, err) == (0, "") and "kept apart: 6 photographs, 6 objects, 6 of which need" in out
    (training,) = Path("runs/learn/trainings").iterdir()
    with locked(training):
        code, _, err = learn("--annotations", "boxes.json", *words)
        assert code == 1 and f"{training} is in use by process" in err and err.count("\n") == 1
    assert learn(*words)[::2] == (0, ""), "the folder serves a detector, too"


def test_a_network_that_sees_nothing_is_no_promise(learn, bright_network, tmp_path):
    blind = bright_network(gain=0, bias=-200)
    code, _, err = learn("--miss", "0.25", "--learning-rate", "1e-9", initial=blind)
    assert code == 1 and "no threshold loses at most 25% on 6 photographs kept apart" in err and err.count("\n") == 1
    assert not (tmp_path / "focus.safetensors").exists()


@pytest.mark.parametrize(("words", "message"), [
    (("--miss", "0.05"), "16 photographs; a miss of 0.05 takes 19 that are kept apart and 8 to learn from, 27 in all"),
    (("--miss", "2"), "--miss 2.0; want a share from 0.005 to 0.5"),
    (("--share", "3"), "--share 3.0; want a number from 0.1 to 1"),
    (("--steps", "0"), "--steps 0; want at least 1"),
    (("--plan", "focus.json"), "--plan focus.json would be overwritten by the plan; choose another --output"),
    (("--annotations", "boxes.json", "--output", "boxes.safetensors"), "--annotations boxes.json would be overwritten"),
    (("--names", "names.json", "--output", "names.safetensors"), "--names names.json would be overwritten"),
    (("--output", "boxes.safetensors"), "boxes.json would be overwritten by the plan, and is none"),
    (("--output", "x.npz"), "want the name of a .safetensors file"),
    (("--learning-rate", "nan"), "want a positive number"),
])  # fmt: skip
def test_bad_input(learn, words, message):
    code, _, err = learn(*words)
    assert code == 1 and message in err and err.count("\n") == 1


def test_no_network_to_start_from(learn):
    code, _, err = learn("--miss", "0.25", initial="none.safetensors")
    assert code == 1 and "do not exist" in err and err.count("\n") == 1


def found(*rows):
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([row[4] for row in rows], np.float32), np.zeros(len(rows), np.int32))


def test_what_needs_a_second_look():
    scales = Scale(100, 100, ValidRange(20, np.inf), None), Scale(400, 400, ValidRange(0, 50), None)
    small, weak, large, anyway = (0, 0, 9, 9, 0.8), (50, 0, 60, 9, 0.3), (0, 0, 90, 90, 0.9), (60, 60, 90, 90, 0.7)
    known = judge(found((60, 61, 90, 90, 0.3), (0, 0, 9, 9, 0.9)), found(small, weak, large, anyway), scales)
    np.testing.assert_array_equal(known.truth.boxes, [small[:4], weak[:4], anyway[:4]])
    assert known.truth.ignore.tolist() == [False, True, True] and known.found == 1
    assert judge(found(), found(), scales).found == 0


def test_values_of_objects():
    focus = np.zeros((4, 6), np.float32)
    focus[1, 2], focus[3, 5] = 0.5, 0.9
    boxes = np.array([[60, 30, 70, 70], [0, 0, 10, 10], [180, 120, 195, 130]], np.float32)
    known = Known(GroundTruth(boxes, np.zeros(3, np.int32), np.zeros(3, bool)), 2)
    assert values(focus, known, np.array([0.5, 0.5]), 16).tolist() == [0.5, 0.0, float(np.float32(0.9)), np.inf, np.inf]


@pytest.mark.parametrize("rows", [1, 4])
def test_boxes_beside_the_map_have_the_nearest_cell(rows):
    focus = np.arange(6.0 * rows).reshape(rows, 6)
    boxes = np.array([[-40, -40, -20, -20], [20, -40, 25, -20], [-40, 0, -20, 10], [300, 200, 310, 210]], np.float32)
    assert highest(focus, boxes, np.ones(2), 16).tolist() == [0, 1, 0, 6 * rows - 1]
