"""Variables of any kind of weights file or folder, and the settings that they were trained with."""

from __future__ import annotations

import json
from pathlib import Path

import jax

from autofocus_jax.config import Config
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.errors import CheckpointError
from autofocus_jax.weights import fit, safetensors
from autofocus_jax.weights.meaning import changed_meaning

_NO_SETTINGS = ("ledger", "trained on", "initial", "categories")  # of config.json


def load_variables(path: str | Path, config: Config) -> Variables:
    """Return the detector's variables from a safetensors file, a training folder (newest checkpoint) or one checkpoint.

    If a checkpoint holds a moving average (EMA) of the parameters, the averaged ones are returned.

    Args:
        path: a file, WORKDIR or WORKDIR/checkpoints/STEP.
        config: settings that the variables must fit.

    Raises:
        CheckpointError: the checkpoint is missing, unreadable or does not fit the config.
        WeightsError: the file is missing, broken or does not fit the config.
    """
    path = Path(path)
    made_with: dict = {}
    expected = jax.eval_shape(detector_of(config.detector).init, jax.random.key(0))
    if path.is_file():
        variables, metadata = safetensors.load(path)
        made_with = metadata["config"]
        if metadata.get("untrained"):  # written by the conversion of foreign weights
            raise CheckpointError(
                f"{path} has random values in {', '.join(metadata['untrained'])}, which its source lacked; "
                "weights of a whole detector are needed"
            )
    else:
        variables, made_with = _of_training(path)
    fit.strict(variables, expected)
    safetensors.check_finite(safetensors.flatten(variables), str(path))
    changed = changed_meaning(made_with.get("detector", {}), config.detector)
    if changed:
        raise CheckpointError(
            f"{path} was trained with another detector ({'; '.join(changed)}); use the config it was trained with"
        )
    return variables


def _of_training(path: Path) -> tuple[Variables, dict]:
    """The variables of WORKDIR or WORKDIR/checkpoints/STEP, and the settings that they were trained with."""
    from autofocus_jax.weights import checkpoint  # Orbax, without which files can be read

    if (path / "checkpoints").is_dir():
        if not checkpoint.steps(path):
            raise CheckpointError(f"{path}/checkpoints holds no finished checkpoint; train longer")
        return checkpoint.variables(path / "checkpoints" / str(checkpoint.steps(path)[-1])), trained_with(path)
    if path.is_dir() and path.absolute().parent.name == "checkpoints" and path.name.isdigit():
        return checkpoint.variables(path), trained_with(path.absolute().parents[1])
    if path.exists():
        raise CheckpointError(f"{path} holds no checkpoint; give a .safetensors file or the workdir of a training")
    raise CheckpointError(f"checkpoint {path} does not exist; give a .safetensors file or a training's workdir")


def trained_with(workdir: Path) -> dict:
    """Return the settings, as JSON data, that a training folder was made with; empty if none are stored.

    Raises:
        CheckpointError: its config.json is damaged.
    """
    return {name: value for name, value in notes(workdir).items() if name not in _NO_SETTINGS}


def notes(workdir: Path) -> dict:
    """Return everything in config.json of a training folder: settings, data, names of the classes, initial weights.

    Raises:
        CheckpointError: config.json is damaged.
    """
    path = workdir / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); put back the config of that training") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("detector", {}), dict):
        raise CheckpointError(f"{path} holds no settings; put back the config of that training")
    return settings
