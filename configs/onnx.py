"""A detector that you already have, in an ONNX file, measured on your own boxes (docs/any_detector.md).

python evaluate.py --config configs/onnx.py --detector model.onnx --data.root photos

Every option of `autofocus detect --detector` is one here too. `--data.annotations` and `--data.images` say where the
boxes (COCO's form) and the images lie below the root, if they do not lie where COCO has them.
"""

from autofocus_jax.command.foreign_config import ForeignConfig
from autofocus_jax.data.coco import CocoSource


def get_config() -> ForeignConfig:
    return ForeignConfig(name="onnx", data=CocoSource("photos"))
