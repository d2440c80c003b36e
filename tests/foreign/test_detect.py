"""A foreign detector inside the cascade."""

import threading
import weakref
from functools import partial

import numpy as np
import pytest

from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.cascade import cascade, stream
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.canvases import CanvasConfig
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.structures import ChipRule, Detections, DetectorError, HostAnswer, Placement, Scale, ValidRange
from autofocus_jax.where.weak import weak

ALL = ValidRange(0, np.inf)


def bright(fixed=None, score=lambda side: 0.9):
    """Finds one box around all bright pixels of a crop; `score` of its longer side, crop px."""

    def find(crops):
        found = []
        for crop in crops:
            ys, xs = np.nonzero(crop[..., 0] > 128)
            if not len(ys):
                found.append(Detections.none())
                continue
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            value = score(max(box[2] - box[0], box[3] - box[1]))
            found.append(
                Detections(np.array([box], np.float32), np.array([value], np.float32), np.array([1], np.int32))
            )
        return found

    return CropDetector(find, fixed, 32, (7, 7, 7), ("a", "b"))


@pytest.mark.parametrize("fixed", [None, (96, 96)])
def test_weak_focus_finds_what_is_small_by_looking_again(fixed):
    """At scale 1 the object is seen weakly, and only at scale 2, in a small chip, well."""
    image = np.zeros((640, 960, 3), np.uint8)
    image[304:320, 512:536] = 255
    detector = bright(fixed, lambda side: 0.05 if side < 20 else 0.9)
    detect = ForeignDetect(detector, weak(32), CanvasConfig())
    scales = [
        Scale(160, 240, ValidRange(100, np.inf), ChipRule(0.02, 3, 16)),
        Scale(640, 960, ValidRange(0, 200), None),
    ]
    (found,), cost, _ = cascade([image], detect, Plan(scales, Loose()))
    np.testing.assert_allclose(found.boxes, [[512, 304, 536, 320]])
    assert found.labels.tolist() == [1] and found.scores[0] == pytest.approx(0.9)
    assert cost.chips.tolist() == [1, 1] and cost.pixels[1] < 0.07 * 640 * 960
    assert (cost.padded_pixels >= cost.pixels).all() and detect.concurrency == 1
    if fixed:
        assert (cost.padded_pixels == cost.runs * 96 * 96).all() and cost.runs.tolist() == [6, 9]
    else:
        assert cost.runs.tolist() == [1, 1]


def places(count, key=0):
    return [Placement(key, 1, np.array([0, 0, 9, 9], np.float32), np.ones(2, np.float32))] * count


def test_chips_are_padded_with_the_detector_s_own_value():
    seen = []
    detector = bright()._replace(find=lambda crops: seen.extend(crops) or [Detections.none() for _ in crops])
    ForeignDetect(detector)([np.full((20, 40, 3), 9, np.uint8), np.full((33, 32, 3), 9, np.uint8)], places(2))
    assert [crop.shape for crop in seen] == [(32, 64, 3), (64, 32, 3)]
    assert set(np.unique(seen[0][20:])) == {7} and set(np.unique(seen[0][:20, :40])) == {9}


def test_chips_of_different_images_never_share_a_canvas():
    images = [np.zeros((48, 48, 3), np.uint8)] * 4
    (_, _, _, _), cost, _ = cascade(images, ForeignDetect(bright((96, 96))), Plan([Scale(48, 48, ALL, None)], Loose()))
    assert cost.runs.tolist() == [4] and cost.padded_pixels.tolist() == [4 * 96 * 96]


def test_without_a_where_there_is_no_focus_map_and_the_pyramid_needs_none():
    answer = ForeignDetect(bright())([np.full((40, 50, 3), 255, np.uint8)], places(1))
    assert answer.focus is None and answer.found[0].scores.tolist() == [np.float32(0.9)]
    plan = Plan([Scale(32, 32, ALL, ChipRule(0.5, 1, 16)), Scale(64, 64, ALL, None)], Loose())
    cascade([np.zeros((64, 64, 3), np.uint8)], ForeignDetect(bright()), plan.pyramid())
    with pytest.raises(DetectorError, match="no focus map, which the rule of scale 1 needs"):
        cascade([np.zeros((64, 64, 3), np.uint8)], ForeignDetect(bright()), plan)


def test_chips_of_an_image_come_in_one_call_whatever_its_neighbours():
    """Images of one size ask for as many chips each; their groups share a queue and never mix."""
    calls = []

    def detect(crops, placements):
        calls.append([(place.key, place.scale) for place in placements])
        maps = [np.zeros([-(-side // 16) for side in crop.shape[:2]], np.float32) for crop in crops]
        for focus in maps:
            focus[0, 0] = focus[-1, -1] = 1
        return HostAnswer([Detections.none() for _ in crops], maps, len(crops), 0)

    plan = Plan([Scale(128, 128, ALL, ChipRule(0.5, 1, 16)), Scale(256, 256, ALL, None)], Loose(), window=3)
    images = [np.zeros((256, 256, 3), np.uint8)] * 5
    cascade(images, detect, plan)
    assert sorted(calls) == sorted([[(key, 1)] for key in range(5)] + [[(key, 2)] * 2 for key in range(5)])


@pytest.mark.parametrize(
    "answer, message",
    [
        (None, "answered a NoneType for 1 loose chips"),
        (HostAnswer([], None, 0, 0), "answered for 0 of 1 chips"),
        (HostAnswer([(np.zeros((2, 4)), np.zeros(1), np.zeros(1))], None, 1, 1), r"got \[2, 4\], \[1\] and \[1\]"),
        (HostAnswer([(np.full((1, 4), np.nan), np.ones(1), np.ones(1))], [np.zeros((4, 4))], 1, 1), "is not finite"),
        (HostAnswer([Detections.none()], [np.zeros((8, 8))], 1, 1), r"focus must have shape \[4, 4\]"),
        (HostAnswer([Detections.none()], [], 1, 1), "0 focus maps for 1 chips"),
    ],
)
def test_answers_that_make_no_sense(answer, message):
    plan = Plan([Scale(64, 64, ALL, ChipRule(0.5, 1, 16)), Scale(128, 128, ALL, None)], Loose())
    with pytest.raises(DetectorError, match=message) as error:
        cascade([np.zeros((64, 64, 3), np.uint8)], lambda *_: answer, plan)
    assert "\n" not in str(error.value)


def test_one_call_at_a_time():
    inside, most, entered = [], [], threading.Event()

    def find(crops):
        inside.append(1)
        most.append(len(inside))
        entered.wait(0.05)
        inside.pop()
        return [Detections.none() for _ in crops]

    detect = ForeignDetect(bright()._replace(find=find))
    given = [np.zeros((32, 32, 3), np.uint8)], places(1)
    threads = [threading.Thread(target=detect, args=given) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_an_error_of_the_detector_ends_the_cascade():
    def find(crops):
        raise ForeignError("the callback raised")

    plan = Plan([Scale(64, 64, ALL, None)], Loose())
    with pytest.raises(ForeignError, match="the callback raised"):
        cascade([np.zeros((64, 64, 3), np.uint8)], ForeignDetect(bright()._replace(find=find)), plan)


def failing_on(keys, raised=ForeignError("the callback raised")):
    """A detector that finds nothing, and raises for the chips of some images."""
    inner = ForeignDetect(bright())

    def detect(crops, placements):
        if placements[0].key in keys:
            raise raised
        return inner(crops, placements)

    return detect


def readers(count):
    return [(key, lambda: np.zeros((64, 64, 3), np.uint8)) for key in range(count)]


@pytest.mark.parametrize("window", [1, 4])
def test_an_image_that_the_detector_fails_on_is_named_and_the_others_go_on(window):
    plan = Plan([Scale(64, 64, ALL, None)], Loose(), window=window)
    outcomes = list(stream(readers(20), failing_on({0, 3, 19}), plan, threads=2))
    assert [outcome.key for outcome in outcomes] == list(range(20))
    failed = {outcome.key: outcome.error for outcome in outcomes if outcome.error}
    assert failed == dict.fromkeys((0, 3, 19), "the callback raised")
    assert outcomes[3].detections is None and outcomes[3].size == (64, 64) and outcomes[3].cost is None
    assert all(len(outcome.detections.scores) == 0 for outcome in outcomes if not outcome.error)


def test_an_image_that_fails_at_a_finer_scale_has_no_detections():
    plan = Plan([Scale(64, 64, ALL, ChipRule(0.5, 1, 16)), Scale(128, 128, ALL, None)], Loose()).pyramid()
    inner = failing_on({})

    def detect(crops, placements):
        if placements[0].key == 1 and placements[0].scale == 2:
            return HostAnswer([Detections.none()] * 3, None, 1, 1)
        return inner(crops, placements)

    outcomes = list(stream(readers(3), detect, plan))
    assert [outcome.error for outcome in outcomes] == [None, "the detector answered for 3 of 1 chips; answer for each",
                                                       None]  # fmt: skip


def test_a_detector_that_fails_on_every_image_ends_the_stream():
    plan = Plan([Scale(64, 64, ALL, None)], Loose())
    seen = []
    with pytest.raises(DetectorError) as error:
        for outcome in stream(readers(1000), failing_on(range(1000)), plan):
            seen.append(outcome.key)
    assert str(error.value) == "the detector failed on each of the first 8 images, at last: the callback raised"
    assert seen == list(range(len(seen))) and len(seen) < 8


def test_few_images_that_all_fail_are_each_named():
    plan = Plan([Scale(64, 64, ALL, None)], Loose())
    assert [outcome.error for outcome in stream(readers(3), failing_on(range(3)), plan)] == ["the callback raised"] * 3


def test_other_errors_end_a_stream():
    plan = Plan([Scale(64, 64, ALL, None)], Loose())
    with pytest.raises(ZeroDivisionError):
        list(stream(readers(3), failing_on({1}, ZeroDivisionError("mine")), plan))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_decoded_images_in_flight_are_few_whatever_the_window(threads):
    """A detector on the host gets an image at a time, so a window of 32 photographs of 25 MB is never filled."""
    alive, most = set(), []

    class Held(np.ndarray):
        pass

    def read(number):
        held = np.full((64, 64, 3), 200, np.uint8).view(Held)
        alive.add(number)
        weakref.finalize(held, alive.discard, number)
        most.append(len(alive))
        return held

    plan = Plan([Scale(64, 64, ALL, ChipRule(0.1, 1, 16)), Scale(128, 128, ALL, None)], Loose())
    assert plan.window == 32
    detect = ForeignDetect(bright(), weak(100))
    outcomes = list(stream(((number, partial(read, number)) for number in range(60)), detect, plan, threads=threads))
    assert [len(outcome.regions) for outcome in outcomes] == [2] * 60, "both scales were run"
    # Read ahead: 2 * threads + 1, and the one handed over. With the detector: one that runs, one that waits for it,
    # and one whose next chips are in the queue.
    assert max(most) <= 2 * threads + 2 + 3 and not alive
