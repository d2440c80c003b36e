"""Options of experiments that run a detector."""

from __future__ import annotations

import dataclasses

from autofocus_jax.command.trained import Trained, load_trained
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments.inputs import Inputs, open_dataset
from autofocus_jax.structures import Dataset


@dataclasses.dataclass(frozen=True)
class DetectorInputs(Inputs):
    """Inputs of an experiment that runs a detector."""

    weights: str | None = None
    """a .safetensors file, a training's --workdir, or "demo", which comes with the program; default: the weights
    shipped for the config"""


def load_detector(inputs: DetectorInputs, config: Config) -> Trained:
    """Return the detector of --weights or of the config (see command.trained.load_trained)."""
    return load_trained(config, inputs.weights)


def open_images(inputs: Inputs, config: Config) -> Dataset:
    """Open the dataset of an experiment that opens images.

    --annotations then need --images and the config's classes.
    """
    if inputs.annotations is not None and inputs.images is None:
        raise ConfigError("this experiment runs a detector; give --images, the folder of the images, too")
    dataset = open_dataset(inputs, config)
    wanted, came = config.detector.num_classes, len(dataset.categories)
    if wanted != came:
        raise ConfigError(f"detector.num_classes is {wanted} but the data have {came} categories; want the same")
    return dataset
