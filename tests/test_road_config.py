"""The config of the road scenes loads, and its buckets hold every level and whatever part of one a chip may be."""

from pathlib import Path

import numpy as np

from autofocus_jax.config.load import load_config
from autofocus_jax.focus.buckets import choose
from autofocus_jax.focus.pyramid import level_size


def test_buckets_hold_levels_and_chips():
    config = load_config(Path(__file__).parent.parent / "configs" / "road.py")
    random = np.random.default_rng(0)
    for scale in config.scales:
        height, width = level_size(1080, 1920, scale)
        for share in np.concatenate([[(1, 1)], random.uniform(0.02, 1, (200, 2))]):
            size = np.ceil(share * (height, width)).astype(int)
            bucket = config.buckets[choose(*size, config.buckets)]
            assert bucket.height >= size[0] and bucket.width >= size[1]
        whole = config.buckets[choose(height, width, config.buckets)]
        assert height * width > 0.9 * whole.height * whole.width  # a whole level is not mostly padding
