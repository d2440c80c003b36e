"""What the paper printed, copied; experiments put it beside what they measured on COCO. All of it is on COCO val."""

from __future__ import annotations

from autofocus_jax.config import Config
from autofocus_jax.structures import Dataset

SIDES = ((480, 512), (800, 1280), (1400, 2000))  # (min side, max side) of its scales, px: the authors' release

# Section 1 and Fig. 1: shares of the objects and of the image area.
AREAS = {"small": {"objects": 0.40, "area": 0.003}}

# Section 5.1. Of a scale: sides of the FocusPixels and of the level, level px, and what the paper calls the percentage
# of FocusPixels, which is the ratio of these sides, without and with a dilation of 3x3.
FOCUS_PIXELS = {
    2: {"focus side": 102, "level side": 940, "side ratio": 0.11, "dilated side ratio": 0.18},
    3: {"focus side": 63, "level side": 1602, "side ratio": 0.04, "dilated side ratio": 0.07},
}
PYRAMID_SIDE = 1910  # Table 1

UPPER_BOUND = {64: 10.0}  # Fig. 5: least side of a chip k, px -> speed-up, read off the figure: about 10


def is_coco(dataset: Dataset) -> bool:
    """Whether a data set has COCO's categories, so that the paper's numbers can stand beside ours."""
    return len(dataset.categories) == 80 and {"person", "toothbrush"} <= set(dataset.categories)


def same_levels(config: Config, dataset: Dataset) -> bool:
    """Whether it is COCO at the levels of the paper, so that its numbers for a scale can stand beside ours."""
    return is_coco(dataset) and tuple((scale.min_side, scale.max_side) for scale in config.scales) == SIDES
