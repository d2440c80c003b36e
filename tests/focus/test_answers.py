import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import answers
from autofocus_jax.focus.plan import Loose, Plan
from autofocus_jax.focus.walk import Chip
from autofocus_jax.structures import Bucket, DetectorOutput, HostAnswer, Placement, Scale, ValidRange

PLAN = Plan((Scale(32, 32, ValidRange(0, np.inf), None),), Loose(), StackingConfig(score_threshold=0.1))
# In chip px, where 2 are one of the image: over every border of the chip, beside it, a line, a tenth of a pixel, a box.
BOXES = [[-9, -9, 99, 99], [40, 4, 50, 9], [4, 50, 9, 60], [3, 3, 3, 9], [3, 3, 9, 3], [5, 5, 5.1, 9], [4, 4, 9, 9]]
KEPT = [0, 6]


def chips():
    """Two chips of 16x16 px of the image, side by side, twice as large in the chip."""
    for row, left in enumerate((0, 16)):
        box = np.array([left, 0, left + 16, 16], np.float32)
        yield Chip(Placement(7, 1, box, np.array([2.0, 2.0])), (32, 32), 2.0, row, Bucket(32, 32, 2))


def check(found):
    for number, (part, _) in enumerate(found):
        left = 16 * number
        np.testing.assert_allclose(part.boxes, [[left, 0, left + 16, 16], [left + 2, 2, left + 4.5, 4.5]])
        np.testing.assert_allclose(part.scores, [0.2 + 0.1 * row for row in KEPT])
        assert part.labels.tolist() == [row % 2 for row in KEPT] and len(part.boxes) == len(KEPT)


def test_boxes_without_area_in_their_chip_are_none():
    scores = np.array([0.2 + 0.1 * row for row in range(len(BOXES))], np.float32)
    labels = np.arange(len(BOXES)) % 2
    of_label = np.where(labels[:, None] == np.arange(2), scores[:, None], 0)
    output = DetectorOutput(np.array([BOXES] * 2), np.stack([of_label] * 2), np.ones((2, len(BOXES)), bool), None)
    check(answers.read_output(list(chips()), output, PLAN))
    rows = (np.array(BOXES), scores, labels)
    check(answers.read_host_answer(list(chips()), HostAnswer([rows, rows], None, 2, 0), PLAN))
