"""Chooses the buckets of a config for a data set: the padded shapes that waste the fewest pixels.

autofocus buckets --config configs/coco_r101.py --annotations instances_train2017.json --count 16

Chips come from the ground truth of an annotation file or of a split of the config's data, as perfect focus maps would
make them, or from a recorded run. Prints the padding before and after, and the lines for the config. Padding is what a
chip's bucket has more than the chip; rows of batches that stay empty come on top.

The padding of whole levels is printed beside that of the chips: they are what the full image pyramid runs on, and a
comparison with it is fair when both are padded alike. --levels chooses for both.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str
    """config file: Python that defines get_config()"""
    annotations: str | None = None
    """COCO annotation file, .json or gzipped; its images are not needed"""
    split: str | None = None
    """instead: a split of the config's own data"""
    chips: str | None = None
    """instead: a recorded run, JSON {"chips": [[height, width, count], ...]} in chip px, all scales together, as
    autofocus evaluate leaves it in chips.json; with "levels" of the same form for those of the pyramid"""
    levels: bool = False
    """choose for the whole levels of every image too, which the full image pyramid asks for"""
    count: int = 16
    """how many buckets at most"""
    batch_pixels: int | None = None
    """memory budget: padded pixels of a batch, which has at least one chip; default: those of the config's largest"""
