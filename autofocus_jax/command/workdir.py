"""The folder of a training: what it was made with, and whether a command may go on in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from autofocus_jax import checkpoint, files
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.config_file import differences, to_dict
from autofocus_jax.weights.safetensors import WeightsError

PROPOSALS = "proposals"  # folder of the proposals stage inside a workdir


def began(workdir: Path) -> bool:
    """Whether something was trained there already."""
    return bool(checkpoint.steps(workdir) or checkpoint.steps(workdir / PROPOSALS))


def changes(config: Config, workdir: Path) -> list[str]:
    """Where a config differs from what the workdir was trained with: lines "key: before -> now".

    A setting that is newer than the workdir had its default. Empty where nothing was trained yet. Raises
    CheckpointError when config.json is damaged.
    """
    if not began(workdir):
        return []
    before = checkpoint.trained_with(workdir)
    before.pop("initial", None)
    return differences(with_defaults(before, config), config) if before else []


def with_defaults(stored: Any, settings: Any) -> Any:
    """JSON data of settings, and what they lack of those of `settings` (dataclasses) with the defaults of today."""
    if dataclasses.is_dataclass(settings) and isinstance(stored, dict):
        filled = dict(stored)
        for field in dataclasses.fields(settings):
            if field.name in stored:
                filled[field.name] = with_defaults(stored[field.name], getattr(settings, field.name))
            elif field.default is not dataclasses.MISSING:
                filled[field.name] = to_dict(field.default)
        return filled
    if isinstance(settings, tuple) and isinstance(stored, list) and len(stored) == len(settings):
        return [with_defaults(*both) for both in zip(stored, settings)]
    return stored


def keep_config(config: Config, workdir: Path, given: dict | None, accept: bool = False) -> dict | None:
    """Writes config.json into the workdir, with what the training starts from as its "initial", and returns that.

    given: file and sha256 of --initial. Where something was trained, what that started from is kept. Raises
    ConfigError when the settings differ from those it was trained with, unless `accept`; WeightsError when it did not
    start from what is given.
    """
    changed = changes(config, workdir)
    if changed and not accept:
        raise ConfigError(
            f"{workdir} was trained with another config ({'; '.join(changed)}); use another --workdir, or "
            "--accept-changes to go on with the new settings"
        )
    files.make_folder(workdir)
    if began(workdir):
        source = checkpoint.trained_with(workdir).get("initial")
        if given is not None and given["sha256"] != (source or {}).get("sha256"):
            started = source["file"] if source else "random weights"
            raise WeightsError(
                f"--initial {given['file']}, but {workdir} was started from {started}; leave --initial out to go on "
                "there, or use another --workdir"
            )
        given = source
    files.write_json(workdir / "config.json", to_dict(config) | ({"initial": given} if given else {}))
    return given
