"""Saving and restoring a training state with orbax, and finding the variables that an evaluation asks for."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from autofocus_jax.config import Config
from autofocus_jax.detector.model import Variables, init
from autofocus_jax.structures import AutoFocusError, TrainState
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.meaning import changed_meaning


class CheckpointError(AutoFocusError):
    """A checkpoint is missing, unreadable or of another config."""


def manager(workdir: str | Path, keep: int = 2) -> ocp.CheckpointManager:
    """Keeps the last `keep` states under WORKDIR/checkpoints."""
    folder = Path(workdir).absolute() / "checkpoints"
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(folder, options=options)


def exists(workdir: str | Path) -> bool:
    """Whether a training folder has a finished checkpoint; orbax names unfinished ones otherwise."""
    return any(item.name.isdigit() for item in (Path(workdir) / "checkpoints").glob("*"))


def save(checkpoints: ocp.CheckpointManager, state: TrainState) -> None:
    """Writes a state in the background; `checkpoints.wait_until_finished()` waits for it."""
    checkpoints.save(int(state.step), args=ocp.args.StandardSave(_storable(state)))


def restore(checkpoints: ocp.CheckpointManager, like: TrainState) -> TrainState:
    """The newest state, of the shapes of `like`. Raises CheckpointError when they differ or it cannot be read."""
    step = checkpoints.latest_step()
    try:
        stored = checkpoints.restore(step, args=ocp.args.StandardRestore(_storable(like)))
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {checkpoints.directory}/{step} is not of this config, or damaged ({_reason(error)}); "
            "use another --workdir or the config it was made with"
        ) from None
    return TrainState(**{**stored, "key": jax.random.wrap_key_data(stored["key"])})


def load_variables(path: str | Path, config: Config) -> Variables:
    """The detector's variables from a safetensors file or from a training folder (its newest checkpoint).

    Raises CheckpointError, or the error of weights/safetensors, naming what does not fit the config.
    """
    path = Path(path)
    made_with: dict = {}
    expected = jax.eval_shape(lambda: init(jax.random.key(0), config.detector))
    if path.is_file():
        variables, metadata = safetensors.load(path)
        made_with = metadata["config"]
        if metadata.get("untrained"):  # written by the conversion of foreign weights
            raise CheckpointError(
                f"{path} has random values in {', '.join(metadata['untrained'])}, which its source lacked; "
                "weights of a whole detector are needed"
            )
    elif (path / "checkpoints").is_dir():
        variables = _newest(path)
        made_with = trained_with(path)
    elif path.exists():
        raise CheckpointError(f"{path} holds no checkpoint; give a .safetensors file or the --workdir of a training")
    else:
        raise CheckpointError(f"checkpoint {path} does not exist; give a .safetensors file or a training's --workdir")
    safetensors.check_shapes(variables, expected)
    changed = changed_meaning(made_with.get("detector", {}), config.detector)
    if changed:
        raise CheckpointError(
            f"{path} was trained with another detector ({'; '.join(changed)}); use the config it was trained with"
        )
    return variables


def trained_with(workdir: Path) -> dict:
    """Settings, as JSON data, that a training folder was made with; empty when it does not say.

    Raises CheckpointError when its config.json is damaged.
    """
    path = workdir / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); put back the config of that training") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("detector", {}), dict):
        raise CheckpointError(f"{path} holds no settings; put back the config of that training")
    return settings


def _newest(workdir: Path) -> Variables:
    with manager(workdir) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise CheckpointError(f"{workdir}/checkpoints holds no finished checkpoint; train longer")
        try:
            stored = checkpoints.restore(step, args=ocp.args.StandardRestore())
        except (ValueError, OSError, KeyError) as error:
            raise CheckpointError(
                f"checkpoint {workdir}/checkpoints/{step} is damaged ({_reason(error)}); remove that folder to use the "
                "one before it"
            ) from None
    return {"params": stored["params"], "batch_stats": stored["batch_stats"]}


def _reason(error: Exception) -> str:
    """The beginning of orbax's message, which may run over many lines."""
    return " ".join(str(error).split())[:200]


def _storable(state: TrainState) -> dict:
    return {**state._asdict(), "key": jax.random.key_data(state.key)}
