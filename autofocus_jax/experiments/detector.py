"""What the experiments that run a detector are told besides: which weights."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments.inputs import Inputs, open_dataset
from autofocus_jax.focus.cascade import Detect
from autofocus_jax.ledger import weights_digest
from autofocus_jax.structures import Dataset
from autofocus_jax.weights import safetensors


@dataclasses.dataclass(frozen=True)
class DetectorInputs(Inputs):
    """Inputs of an experiment that runs a detector."""

    weights: str | None = None
    """a .safetensors file, a training's --workdir, or "demo", which comes with the program; default: the weights
    shipped for the config"""


class Trained(NamedTuple):
    """A detector ready to run, and what tells it from others."""

    detect: Detect
    fingerprint: str  # ledger.weights_digest


def load_detector(inputs: DetectorInputs, config: Config) -> Trained:
    """Return the detector of --weights, or of the config's shipped weights; compile nothing yet.

    Raises ConfigError when there are no weights, and AutoFocusError for weights that cannot be read or do not fit.
    """
    from autofocus_jax.checkpoint import load_variables  # here, so that the command's other experiments go without JAX
    from autofocus_jax.inference.compiled import compile_detector

    variables = load_variables(safetensors.of_config(config, inputs.weights), config)
    return Trained(compile_detector(config, variables), weights_digest(variables))


def open_images(inputs: Inputs, config: Config) -> Dataset:
    """As open_dataset, for an experiment that opens images: --annotations need --images, and the config's classes."""
    if inputs.annotations is not None and inputs.images is None:
        raise ConfigError("this experiment runs a detector; give --images, the folder of the images, too")
    dataset = open_dataset(inputs, config)
    wanted, came = config.detector.num_classes, len(dataset.categories)
    if wanted != came:
        raise ConfigError(f"detector.num_classes is {wanted} but the data have {came} categories; want the same")
    return dataset
