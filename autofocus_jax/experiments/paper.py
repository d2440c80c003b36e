"""Numbers that the paper printed, each copied once. Experiments show them beside measured numbers.

Sources: the paper, arxiv.org/abs/1812.01600 ("paper, copied"), and the results in README.md of its authors' release,
github.com/mahyarnajibi/SNIPER ("release, copied"). Numbers without a split are of COCO val.
"""

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

PAPER, RELEASE = "paper, copied", "release, copied"


def _coco(method: str, side: int | None, scores: tuple[float | None, ...], source: str = PAPER, **more: float) -> dict:
    keys = ("AP", "AP50", "APs", "APm", "APl")
    return {"method": method, "side": side, **dict(zip(keys, scores, strict=True)), **more, "source": source}


# Table 1, on COCO test-dev; images/s are those of section 5.5 on a Titan X (Pascal), RetinaNet's on a P100.
TABLE_1 = (
    _coco("RetinaNet", 950, (37.8, 57.5, 20.2, 41.1, 49.2), images_per_second=6.3),
    _coco("Light-Head", 940, (41.5, None, 25.2, 45.3, 53.1)),
    _coco("RefineDet+", 3100, (41.8, 62.9, 25.6, 45.1, 54.1)),
    _coco("CornerNet+", 1240, (42.1, 57.8, 20.8, 44.8, 56.7)),
    _coco("SNIPER, full pyramid", PYRAMID_SIDE, (47.9, 68.3, 31.5, 50.5, 60.3), images_per_second=2.5),
    _coco("AutoFocus", 1175, (47.9, 68.3, 31.5, 50.5, 60.3), images_per_second=6.4),
    _coco("AutoFocus", 930, (47.2, 67.5, 30.9, 49.0, 60.0)),
    _coco("AutoFocus", 860, (46.9, 67.0, 30.1, 48.9, 60.0)),
)
# By what the network was trained on before; on test-dev unless it says val2017.
RELEASED = (
    _coco("SNIPER, from OpenImages", None, (47.8, 68.2, 31.5, 50.4, 59.8), RELEASE),
    _coco("SNIPER, from ImageNet", None, (46.5, 67.5, 30.0, 49.4, 58.4), RELEASE),
    _coco("SNIPER, MobileNetV2, from ImageNet", None, (34.3, 54.4, 18.5, 36.9, 46.4), RELEASE),
    _coco("AutoFocus, from OpenImages, val2017", None, (47.5, 67.7, 33.3, 51.2, 60.8), RELEASE),
)
# Table 2, on VOC 2007 test: AP at IoU 0.5 and 0.7.
TABLE_2 = tuple(
    {"method": method, "side": side, "voc_ap50": half, "voc_ap70": stricter, "source": PAPER}
    for method, side, half, stricter in (
        ("Deformable ConvNet", 705, 82.3, 67.8), ("Deformable ConvNet v2", 705, 84.9, 73.5),
        ("SNIPER, full pyramid", 1915, 86.6, 80.5), ("AutoFocus, COCO's parameters", 860, 85.8, 79.5),
        ("AutoFocus, tuned", 700, 85.3, 78.1), ("AutoFocus, tuned", 1250, 86.5, 80.2),
    )
)  # fmt: skip

# Fig. 7, val2017: AP of the pyramid and of fewer scales, and AP lost against how many times fewer pixels.
SCALES = {"three scales": {"AP": 47.5, "AP50": 68.0}, "scales 1 and 2": {"AP": 45.4}, "scale 2": {"AP": 37.0}}
TRADEOFF = {"of the pyramid": {2.8: 0.0, 5.0: 1.0}, "of scale 3 alone": {5.0: 0.0, 11.0: 0.5, 20.0: 1.0}}

# Sections 5.2 and 5.3, Fig. 6: share of a scale's area that FocusPixels cover when all objects that are found with
# confidence are covered, and what FocusChips cover more.
COVERAGE = {1: {"focus pixels": 0.25, "chips more": 0.10}, 2: {"focus pixels": 0.05, "chips more": 0.05}}

UPPER_BOUND = {64: 10.0}  # Fig. 5: least side of a chip k, px -> speed-up, read off the figure: about 10


def is_coco(dataset: Dataset) -> bool:
    """Return True if a data set has COCO's categories, so that the paper's numbers can stand beside ours."""
    return len(dataset.categories) == 80 and {"person", "toothbrush"} <= set(dataset.categories)


def same_levels(config: Config, dataset: Dataset) -> bool:
    """Return True for COCO at the paper's levels, so that the paper's numbers for a scale can stand beside ours."""
    return is_coco(dataset) and tuple((scale.min_side, scale.max_side) for scale in config.scales) == SIDES
