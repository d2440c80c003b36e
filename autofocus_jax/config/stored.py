"""A Config from JSON data: the inverse of config.load.to_dict, for settings stored beside weights."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from autofocus_jax.config import Config, ConfigError, DataSource, DetectorConfig, DetectorSettings
from autofocus_jax.structures import Dataset

Settings = TypeVar("Settings")


@dataclasses.dataclass(frozen=True)
class StoredSource(DataSource):
    """A data source of which only the settings are known. Such a source serves detectors that open no data."""

    name: str
    settings: str

    def open(self, split: str) -> Dataset:
        raise ConfigError(f"the data source {self.name} ({self.settings}) is not known here; give the config file "
                          "that the weights were trained with")  # fmt: skip


def from_dict(
    settings: Mapping[str, Any],
    kinds: Mapping[str, type[DataSource] | type[DetectorSettings]],
    where: str = "the settings",
) -> Config:
    """Return the Config that config.load.to_dict turned into `settings`.

    A data source of an unknown kind becomes a StoredSource, which can do everything but open data. A detector of an
    unknown kind is an error. Settings that an older version lacked have their defaults.

    Args:
        settings: JSON data.
        kinds: classes of data sources and of detectors' settings, by name.
        where: name of the settings in messages.

    Raises:
        ConfigError: a setting is unknown, missing, of another type or contradictory.
    """
    settings = renamed(settings) if isinstance(settings, Mapping) else settings
    if isinstance(settings, Mapping) and settings.get("rules") is not None:
        raise ConfigError(f"{where}: chip rules of your own are not stored ({settings['rules']}); give the config file")
    return _build(Config, settings, {"": where, **kinds}, "")


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with names of older versions replaced by present names."""
    return {"shipped" if name == "weights" else name: value for name, value in settings.items()}


def settings_from(kind: type[Settings], settings: Mapping[str, Any], where: str) -> Settings:
    """Return the settings dataclass that config.load.to_dict turned into `settings`.

    Raises ConfigError as from_dict.
    """
    return _build(kind, settings, {"": where}, "")


def _build(kind: type, value: Any, sources: Mapping[str, Any], path: str) -> Any:
    """A value of a type out of JSON data; `sources` also holds the name of the whole under ""."""
    origin, members = get_origin(kind), get_args(kind)
    if kind is DataSource:
        return _source(value, sources, path)
    if kind is DetectorSettings:
        return _detector(value, sources, path)
    if dataclasses.is_dataclass(kind):
        return _settings(kind, value, sources, path)
    if origin in (Union, types.UnionType):  # X | None is the only union that settings have
        (inner,) = (member for member in members if member is not type(None))
        return None if value is None else _build(inner, value, sources, path)
    if origin is tuple:
        return _tuple(members, value, sources, path)
    if origin is Literal and value in members:
        return value
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # "inf" is how JSON data hold what JSON lacks
        except ValueError:
            _refuse(sources, path, value, "a number")
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    expected = f"one of {', '.join(map(str, members))}" if origin is Literal else f"of type {kind.__name__}"
    return _refuse(sources, path, value, expected)


def _settings(kind: type, value: Any, sources: Mapping[str, Any], path: str) -> Any:
    if not isinstance(value, Mapping):
        _refuse(sources, path, value, "an object")
    fields, hints = {field.name: field for field in dataclasses.fields(kind)}, get_type_hints(kind)
    unknown = sorted(value.keys() - fields.keys())
    if unknown:
        raise ConfigError(f"{sources['']}: {_join(path, unknown[0])} is no setting of this version; update "
                          "autofocus_jax, or give the config file")  # fmt: skip
    needed = [name for name, field in fields.items()
              if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]  # fmt: skip
    missing = [name for name in needed if name not in value]
    if missing:
        raise ConfigError(f"{sources['']}: {_join(path, missing[0])} is missing; give the config file")
    return kind(**{name: _build(hints[name], item, sources, _join(path, name)) for name, item in value.items()})


def _tuple(members: tuple, value: Any, sources: Mapping[str, Any], path: str) -> tuple:
    if not isinstance(value, list | tuple):
        _refuse(sources, path, value, "a list")
    kinds = members[:1] * len(value) if members[-1] is Ellipsis else members
    if len(kinds) != len(value):
        _refuse(sources, path, value, f"a list of {len(kinds)}")
    return tuple(_build(kind, item, sources, _join(path, str(number)))
                 for number, (kind, item) in enumerate(zip(kinds, value)))  # fmt: skip


def _source(value: Any, sources: Mapping[str, Any], path: str) -> DataSource:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        _refuse(sources, path, value, "an object with its kind")
    settings = {name: item for name, item in value.items() if name != "kind"}
    if value["kind"] in sources:
        return _settings(sources[value["kind"]], settings, sources, path)
    if value["kind"] == StoredSource.__name__:  # it was not known before either
        return StoredSource(**settings)
    shown = ", ".join(f"{name}={item!r}" for name, item in settings.items())
    return StoredSource(value["kind"], shown)


def _detector(value: Any, kinds: Mapping[str, Any], path: str) -> DetectorSettings:
    """Settings of a detector; those without a kind are of the two-stage one."""
    if not isinstance(value, Mapping):
        _refuse(kinds, path, value, "an object")
    settings, name = dict(value), value.get("kind", DetectorConfig.__name__)
    settings.pop("kind", None)
    known = {DetectorConfig.__name__: DetectorConfig} | {
        name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, DetectorSettings)
    }
    if name not in known:
        _refuse(kinds, _join(path, "kind"), name, f"one of {', '.join(known)}; import the module that adds the kind")
    return _settings(known[name], settings, kinds, path)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse(sources: Mapping[str, Any], path: str, value: Any, expected: str) -> NoReturn:
    shown = str(value)[:60]
    raise ConfigError(f"{sources['']}: {path or 'the whole'} is {shown!r}; want {expected}")
