"""What tests of the drop-ins share: a picture, and a detector that sees small things weakly."""

import cv2
import numpy as np
import pytest

SQUARES = [(100, 60, 460, 420, 0), (700, 500, 748, 548, 1), (1200, 100, 1240, 140, 1)]  # x1, y1, x2, y2, class
NAMES = ("large", "small")


@pytest.fixture
def picture():
    """uint8 RGB [960, 1280, 3] with SQUARES: class 0 in red, class 1 in green, on black."""
    image = np.zeros((960, 1280, 3), np.uint8)
    for x1, y1, x2, y2, label in SQUARES:
        image[y1:y2, x1:x2, label] = 255
    return image


def see(tile, least=0.0):
    """Rows (x1, y1, x2, y2, score, class) of what is in a tile; the score is 0.05 up to 20 px, else 0.9."""
    rows = []
    for label in (0, 1):
        count, _, stats, _ = cv2.connectedComponentsWithStats(np.uint8(tile[..., label] > 200) * 255)
        for x, y, width, height, _ in stats[1:count].tolist():
            score = 0.9 if max(width, height) > 20 else 0.05
            if score >= least:
                rows.append((x, y, x + width, y + height, score, label))
    return rows
