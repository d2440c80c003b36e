"""What the experiments that run a detector are told besides: which weights."""

from __future__ import annotations

import dataclasses

from autofocus_jax.command.trained import Trained, load_trained
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments.inputs import Inputs, open_dataset
from autofocus_jax.structures import Dataset


@dataclasses.dataclass(frozen=True)
class DetectorInputs(Inputs):
    """Inputs of an experiment that runs a detector."""

    checkpoint: str | None = None
    """a .safetensors file or a training's --workdir; default: the weights shipped for the config"""


def load_detector(inputs: DetectorInputs, config: Config) -> Trained:
    """The detector of --checkpoint or of the config; as command.trained.load_trained."""
    return load_trained(config, inputs.checkpoint)


def open_images(inputs: Inputs, config: Config) -> Dataset:
    """As open_dataset, for an experiment that opens images: --annotations need --images, and the config's classes."""
    if inputs.annotations is not None and inputs.images is None:
        raise ConfigError("this experiment runs a detector; give --images, the folder of the images, too")
    dataset = open_dataset(inputs, config)
    wanted, came = config.detector.num_classes, len(dataset.categories)
    if wanted != came:
        raise ConfigError(f"detector.num_classes is {wanted} but the data have {came} categories; want the same")
    return dataset
