"""Videos of squares drawn by hand, and a detector that finds red."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.errors import ImageError, PlanError
from autofocus_jax.focus.area import area_of
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.frames import Follow, State, step
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import STRIDE, ChipRule, Detections, HostAnswer, Scale, ValidRange

HEIGHT, WIDTH = 240, 320
PLAN = Plan(
    (Scale(120, 160, ValidRange(50, np.inf), ChipRule(0.5, 3, 32)), Scale(240, 320, ValidRange(0, 60), None)),
    Loose(),
    StackingConfig(border_tolerance=2, score_threshold=0.1),
)


def red(crops, placements):
    """Finds connected red pixels; its focus map is 1 where a pixel is red."""
    found, maps = [], []
    for crop in crops:
        spots = crop[..., 0].astype(int) - crop[..., 1] > 50
        parts = ndimage.find_objects(ndimage.label(spots)[0])
        boxes = np.array([(x.start, y.start, x.stop, y.stop) for y, x in parts], np.float32).reshape(-1, 4)
        found.append(Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int32)))
        height, width = (-(-side // STRIDE) for side in crop.shape[:2])
        padded = np.zeros((height * STRIDE, width * STRIDE), bool)
        padded[: crop.shape[0], : crop.shape[1]] = spots
        cells = padded.reshape(height, STRIDE, width, STRIDE).any(axis=(1, 3))
        maps.append(cells.astype(np.float32))
    return HostAnswer(found, maps, len(crops), sum(crop.shape[0] * crop.shape[1] for crop in crops))


def ground(size=(HEIGHT, WIDTH)):
    """A grey slope."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.repeat((60 + rows / 4 + columns / 4)[..., None], 3, axis=2).astype(np.uint8)


def drawn(*squares, size=(HEIGHT, WIDTH), strength=255):
    """A frame with red squares, (x, y, side) each."""
    image = ground(size)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = (strength, 0, 0)
    return image


def run(frames, every=100, state=None, detect=red, plan=PLAN):
    """States and Outcomes of frames."""
    states, outcomes, state = [], [], State.none() if state is None else state
    for number, frame in enumerate(frames):
        state, outcome = step(state, frame, detect, plan, Follow(every), key=number)
        states.append(state)
        outcomes.append(outcome)
    return states, outcomes


def moving(count, start=(20, 30), velocity=(6, 2), side=20):
    return [drawn((start[0] + velocity[0] * n, start[1] + velocity[1] * n, side)) for n in range(count)]


def box_at(number, start=(20, 30), velocity=(6, 2), side=20):
    x, y = start[0] + velocity[0] * number, start[1] + velocity[1] * number
    return np.array([[x, y, x + side, y + side]], np.float32)


def test_chips_lie_where_the_object_is_going_to_be():
    _, outcomes = run(moving(20))
    looked = [n for n in range(1, 20) if len(outcomes[n].regions[1])]
    assert len(looked) >= 4
    for number in looked:
        assert not len(outcomes[number].regions[0])  # scale 2 answers for its size
        (chip,) = outcomes[number].regions[1].astype(np.float32)[None]
        assert box_ops.coverage(box_at(number), chip)[0, 0] == 1
        assert box_ops.area(chip)[0] < 0.1 * HEIGHT * WIDTH


def test_constant_motion_is_reported_exactly_in_every_frame():
    states, outcomes = run(moving(20))
    for number, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(outcome.detections.boxes, box_at(number))
    np.testing.assert_array_equal(states[-1].velocities, [[6, 2]])
    side = 20 + 2 * (STRIDE + PLAN.stacking.border_tolerance)
    for outcome in outcomes[12:]:  # predictions were right, so margins are those of certain objects
        assert outcome.cost.pixels.tolist() == [0, pytest.approx(side**2, rel=0.1)]


def test_large_objects_stay_between_full_looks():
    """Only scale 1 answers for them."""
    frames = moving(20, start=(40, 50), velocity=(3, 1), side=100)
    _, outcomes = run(frames)
    for number, outcome in enumerate(outcomes):
        expected = box_at(number, (40, 50), (3, 1), 100)
        assert box_ops.iou(expected, outcome.detections.boxes).max() > 0.93 and len(outcome.detections.scores) == 1
        assert not number or not len(outcome.regions[1])


def test_an_object_that_turns_is_not_lost():
    angle = np.linspace(0, 2 * np.pi, 40)
    places = np.stack([150 + 60 * np.sin(angle), 110 - 60 * np.cos(angle)], axis=1).round().astype(int)
    _, outcomes = run([drawn((x, y, 24)) for x, y in places.tolist()])
    for (x, y), outcome in zip(places, outcomes):
        truth = np.array([[x, y, x + 24, y + 24]], np.float32)
        assert box_ops.iou(truth, outcome.detections.boxes).max(initial=0) > 0.5


def test_a_new_object_is_seen_at_once_where_the_picture_changes():
    frames = [drawn((20, 30, 20))] * 4 + [drawn((20, 30, 20), (200, 150, 16))] * 3
    _, outcomes = run(frames)
    assert [len(outcome.detections.scores) for outcome in outcomes] == [1, 1, 1, 1, 2, 2, 2]
    assert outcomes[4].cost.pixels.sum() < 0.3 * outcomes[0].cost.full_pixels.sum()


def test_a_new_object_that_no_change_betrays_is_seen_by_the_next_full_look():
    """It fades in, a little in each frame."""
    frames = [drawn()] * 3
    for strength in range(40, 200, 4):
        image = ground()
        image[150:158, 200:208, 1:] = 100  # as bright in sum as the slope; the red grows slowly
        image[150:158, 200:208, 0] = strength
        frames.append(image)
    visible = next(n for n, frame in enumerate(frames) if len(red([frame], []).found[0].scores))
    for every in (4, 7):
        _, outcomes = run(frames, every)
        seen = next(n for n, outcome in enumerate(outcomes) if len(outcome.detections.scores))
        assert visible <= seen < visible + every


def test_a_still_picture_costs_the_tracked_places_alone():
    frames = [drawn((20, 30, 20), (200, 150, 16))] * 12
    _, outcomes = run(frames)
    for outcome in outcomes[1:]:
        np.testing.assert_array_equal(np.sort(outcome.detections.boxes, axis=0),
                                      [[20, 30, 40, 50], [200, 150, 216, 166]])  # fmt: skip
        assert outcome.cost.pixels[0] == 0 and outcome.cost.pixels[1] <= 2 * 70**2
        for chip in outcome.regions[1]:
            centre = (chip[:2] + chip[2:]) / 2
            assert np.abs(centre - [[30, 40], [208, 158]]).max(axis=1).min() <= 4


def test_without_objects_nothing_is_looked_at_between_full_looks():
    _, outcomes = run([drawn()] * 7, every=3)
    pixels = [int(outcome.cost.pixels.sum()) for outcome in outcomes]
    assert [value > 0 for value in pixels] == [True, False, False, True, False, False, True]
    assert not any(len(outcome.detections.scores) for outcome in outcomes)


def test_every_1_is_frame_by_frame():
    frames = moving(4)
    _, outcomes = run(frames, every=1)
    for frame, outcome in zip(frames, outcomes):
        (alone,), cost, _ = cascade([frame], red, PLAN)
        for ours, theirs in zip(outcome.detections, alone):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(outcome.cost.pixels, cost.pixels)


def test_global_brightness_changes_trigger_no_look():
    frames = [drawn()] * 2 + [(drawn() * gain + 5).astype(np.uint8) for gain in (1.2, 0.8, 1.0, 1.1)]
    _, outcomes = run(frames)
    assert [int(outcome.cost.pixels.sum()) for outcome in outcomes[1:]] == [0] * 5


def test_another_picture_gets_a_full_look():
    other = np.kron(np.random.default_rng(0).integers(0, 255, (HEIGHT // 40, WIDTH // 40, 1), np.uint8),
                    np.ones((40, 40, 3), np.uint8))  # fmt: skip
    _, outcomes = run([drawn((20, 30, 20))] * 3 + [other])
    np.testing.assert_array_equal(outcomes[3].regions[0], [[0, 0, WIDTH, HEIGHT]])


def test_a_broken_frame_is_named_and_passed_over():
    frames = moving(12)
    frames[5] = ImageError("frame 5 is torn")
    states, outcomes = run(frames)
    assert outcomes[5].error == "frame 5 is torn" and outcomes[5].key == 5 and outcomes[5].detections is None
    assert states[5].number == 6
    for before, after in zip(states[4][1:], states[5][1:]):
        np.testing.assert_array_equal(before, after)
    for number in (6, 7, 8, 11):
        np.testing.assert_array_equal(outcomes[number].detections.boxes, box_at(number))


def test_the_first_frame_may_be_broken():
    states, outcomes = run([ImageError("torn"), *moving(2)])
    assert outcomes[0].error == "torn" and len(outcomes[1].regions[0]) == 1 and states[-1].number == 3


def test_a_video_that_changes_its_size_starts_anew():
    small = drawn((10, 10, 20), size=(120, 200))
    states, outcomes = run([*moving(4), small, small])
    np.testing.assert_array_equal(outcomes[4].regions[0], [[0, 0, 200, 120]])
    np.testing.assert_array_equal(states[4].boxes, [[10, 10, 30, 30]])
    assert states[4].full == 5 and np.isnan(states[4].velocities).all()
    assert not len(outcomes[5].regions[0])


def test_an_object_that_vanishes_is_given_up():
    _, outcomes = run([drawn((100, 100, 20))] * 5 + [drawn()] * 12)
    counts = [len(outcome.detections.scores) for outcome in outcomes]
    assert counts[:5] == [1] * 5 and counts[8:] == [0] * 9
    assert outcomes[-1].cost.pixels.sum() == 0


def test_an_object_that_leaves_is_given_up():
    states, outcomes = run(moving(30, start=(240, 100), velocity=(6, 0)))
    assert not len(states[-1].seen) and not len(outcomes[-1].detections.scores)


def test_a_state_that_was_saved_goes_on_to_the_same_bits(tmp_path):
    frames = moving(14)
    frames[9] = drawn((74, 48, 20), (200, 150, 16))
    whole, expected = run(frames, every=6)
    first, _ = run(frames[:7], every=6)
    np.savez(tmp_path / "state.npz", **first[-1]._asdict())
    with np.load(tmp_path / "state.npz") as kept:
        loaded = State(**kept)
    rest, outcomes = run(frames[7:], every=6, state=loaded)
    for ours, theirs in zip(rest, whole[7:]):
        for one, other in zip(ours, theirs):
            np.testing.assert_array_equal(one, other)
    for ours, theirs in zip(outcomes, expected[7:]):
        np.testing.assert_array_equal(ours.detections.boxes, theirs.detections.boxes)
        np.testing.assert_array_equal(ours.cost.pixels, theirs.cost.pixels)


def test_a_detector_without_focus_maps():
    def blind(crops, placements):
        return red(crops, placements)._replace(focus=None)

    _, outcomes = run(moving(6), detect=blind, plan=PLAN.pyramid())
    np.testing.assert_array_equal(outcomes[5].detections.boxes, box_at(5))
    assert sum(outcome.cost.pixels.sum() for outcome in outcomes[1:]) < outcomes[0].cost.pixels.sum() / 2


def test_wrong_settings_and_frames():
    with pytest.raises(PlanError, match="every 0"):
        Follow(0)
    with pytest.raises(PlanError, match="1 arrays of looks for 2 scales"):
        dataclasses.replace(PLAN, looks=(np.zeros((0, 4), np.int32),))
    with pytest.raises(ImageError, match="float64"):
        step(State.none(), np.zeros((4, 4, 3)), red, PLAN)


def test_what_is_followed_is_chosen_by_its_score():
    """A still object of score 0.15: below the score it is found in full looks alone."""

    def weak(crops, placements):
        answer = red(crops, placements)
        found = [each._replace(scores=each.scores * np.float32(0.15 / 0.9)) for each in answer.found]
        return answer._replace(found=found)

    for score, counts in ((0.3, [1, 0, 0, 1]), (0.1, [1, 1, 1, 1])):
        state, seen = State.none(), []
        for _ in range(4):
            state, outcome = step(state, drawn((40, 60, 16)), weak, PLAN, Follow(3, score))
            seen.append(len(outcome.detections.scores))
        assert seen == counts


def test_what_moves_outside_of_an_area_is_not_looked_at():
    area = np.zeros((HEIGHT, WIDTH), bool)
    area[:120] = True
    frames = [drawn((20 + 6 * number, 30, 16), (200 - 6 * number, 180, 16)) for number in range(6)]
    _, outcomes = run(frames, plan=dataclasses.replace(PLAN, area=area_of(area)))
    for outcome in outcomes[1:]:
        assert all((regions[:, 1] < 120).all() for regions in outcome.regions)
    assert all((outcome.detections.boxes[:, 3] <= 60).all() and len(outcome.detections.scores) for outcome in outcomes)
