"""Choose the buckets of a config for a data set: the padded shapes that waste the fewest pixels.

autofocus buckets --config configs/coco_r101.py --annotations instances_train2017.json --count 16

Chips are those of perfect focus maps, from an annotation file or a split of the config's data, or those of a recorded
run. The command prints the padding before and after, and the lines for the config. Padding is the difference between a
bucket and its chip; empty rows of batches come on top.

The padding of whole levels is printed too, because the full image pyramid runs on them. A comparison is fair if both
are padded alike. --levels chooses for both.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str
    """config file: Python that defines get_config()"""
    annotations: str | None = None
    """a COCO file (.json, .json.gz); its images are not needed"""
    split: str | None = None
    """instead of --annotations: a split of the config's data"""
    chips: str | None = None
    """instead of --annotations: a recorded run, as chips.json of autofocus evaluate, that is {"chips": [[height, width,
    count], ...]} in chip px, all scales together; "levels" has the same form for the pyramid"""
    levels: bool = False
    """also choose for the whole levels of every image, which the full image pyramid uses"""
    count: int = 16
    """most buckets"""
    batch_pixels: int | None = None
    """most padded pixels of a batch, which has at least one chip; default: that of the config's largest"""
