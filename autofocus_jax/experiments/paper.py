"""What the paper printed, copied; every experiment puts it beside what it measured. All of it is on COCO's val set."""

from __future__ import annotations

from autofocus_jax.config import Config

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


def same_scales(config: Config) -> bool:
    """Whether a config's levels are those of the paper, so that its numbers for a scale can stand beside ours."""
    return tuple((scale.min_side, scale.max_side) for scale in config.scales) == SIDES
