"""The package's weights format: one safetensors file of arrays named "collection/module/array", with the config."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.errors import WeightsError
from autofocus_jax.files import write_bytes

_FORMAT = "autofocus_jax weights 1"
# What readers of a damaged or hostile file raise: an AttributeError for types that NumPy lacks, a RecursionError for
# settings nested thousands of times.
FAULTS = (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError)
_SHIPPED = Path(__file__).parent / "shipped"


def save(
    path: str | os.PathLike,
    variables: Mapping[str, Any],
    config: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    dtype: type = np.float32,
) -> None:
    """Write variables whole or not at all.

    Args:
        path: the file.
        variables: {"params": …, "batch_stats": …}, nested dicts of arrays.
        config: settings as JSON data (config.load.to_dict).
        metadata: more JSON data to keep (seed, AP …).
        dtype: float16 halves the file: kernels are stored in half precision. Vectors (biases, batch statistics) and
            arrays that half precision cannot hold stay float32.
    """
    arrays = {name: _stored(np.asarray(array), dtype) for name, array in flatten(variables).items()}
    header = {"format": _FORMAT, "config": json.dumps(config), "metadata": json.dumps(dict(metadata or {}))}
    write_bytes(Path(path), serialize(arrays, header))  # save_file would make it private to the user


def load(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (variables, metadata): nested dicts of float32 arrays, and the saved metadata with "config" in it.

    Raises:
        WeightsError: the file is missing, truncated or foreign, or holds values that are not finite.
    """
    if not Path(path).is_file():
        raise WeightsError(
            f"weights {path} do not exist; give a .safetensors file of this program, a training's folder, or the "
            "name of weights that come with it: demo"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if header.get("format") != _FORMAT:
            raise WeightsError(f"weights {path} are not in this program's format ({_FORMAT!r}); convert them first")
        metadata = {**json.loads(header["metadata"]), "config": dict(json.loads(header["config"]))}
        detector = metadata["config"].get("detector", {})
        if not isinstance(detector, dict) or not isinstance(detector.get("backbone", {}), dict):
            raise ValueError("the detector's settings are no objects")
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        variables = unflatten(arrays)
    except FAULTS as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, AttributeError):
            raise WeightsError(
                f"weights {path} hold a type that NumPy lacks ({reason}); save them as float32"
            ) from None
        raise WeightsError(f"weights {path} are damaged or no safetensors file ({reason}); get the file anew") from None
    check_finite(arrays, f"weights {path}")
    return variables, metadata


def check_finite(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raise WeightsError, which names the array, unless all values are finite."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{where}: {name} holds NaN or infinite values; train again, or get the file anew")


def shipped(name: str) -> Path:
    """Return the path of weights that come with the package, by name ("demo").

    Raises:
        WeightsError: no shipped weights have this name.
    """
    path = _SHIPPED / name
    if not path.is_file():
        known = sorted(item.name for item in _SHIPPED.glob("*.safetensors"))
        have = f"shipped are {', '.join(known)}" if known else "none are shipped"
        raise WeightsError(f"no weights {name!r} are shipped with autofocus_jax; {have}; give a file of weights")
    return path


def find(weights: str | os.PathLike) -> Path:
    """Return the path of weights: a file, a folder, or the name of shipped weights ("demo").

    A bare name is first taken as the name of shipped weights. ./demo is the folder.
    """
    path = Path(weights)
    bare = os.fspath(weights) == path.name and (not path.suffix or not path.exists())
    if bare and path.suffix in ("", ".safetensors") and (_SHIPPED / f"{path.stem}.safetensors").is_file():
        return _SHIPPED / f"{path.stem}.safetensors"
    return path


def of_config(config: Config, weights: str | os.PathLike | None = None) -> Path:
    """Return the path of `weights`, as `find` does, or of the weights shipped for the config.

    Raises:
        ConfigError: there are neither.
    """
    if weights is not None:
        return find(weights)
    if config.shipped is None:
        raise ConfigError(f"no weights are shipped for config {config.name!r}; give a file of weights")
    return shipped(config.shipped)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict, with names joined by "/"."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inverse of flatten.

    Raises:
        ValueError: one name continues another, as "x/y" continues "x".
    """
    tree: dict[str, Any] = {}
    for name in flat:
        for end in (place for place, letter in enumerate(name) if letter == "/"):
            if name[:end] in flat:
                raise ValueError(f"both {name[:end]!r} and {name!r} are arrays")
    for name, value in flat.items():
        *folders, leaf = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = value
    return tree


def _stored(array: np.ndarray, dtype: type) -> np.ndarray:
    array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    fits = array.ndim >= 2 and np.abs(array).max(initial=0) <= np.finfo(dtype).max
    return array.astype(dtype) if fits else array
