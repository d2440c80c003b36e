"""Config files, command lines that override them, and the comparison of settings.

A config file is Python that defines `get_config() -> Config`. The command line can override every setting by its path,
as in `--training.steps 100` or `--scales.0.chips.threshold 0.1`. `--help` lists the settings with their values. A part
that the file leaves out (`None`) stays out. The file chooses the kind of data source.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import math
import os
import runpy
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from autofocus_jax import ledger
from autofocus_jax.config import Config, ConfigError, DataSource, DetectorConfig, DetectorSettings
from autofocus_jax.structures import AutoFocusError

Arguments = TypeVar("Arguments")


def load_config(path: str | os.PathLike, overrides: Sequence[str] = ()) -> Config:
    """Return the Config of a file's get_config().

    Args:
        path: the config file.
        overrides: options such as ("--training.steps", "100").

    Raises:
        ConfigError: the file is missing or broken, a key does not exist, a value has the wrong type, or settings
            contradict each other.
    """
    config = _read(Path(path), (Config,))
    return parse(Config, list(overrides), prog=str(path), default=config) if overrides else config


def command_line(
    arguments: type[Arguments],
    argv: Sequence[str],
    prog: str,
    description: str,
    kinds: Callable[[], tuple[type, ...]] = lambda: (Config,),
) -> tuple[Arguments, Any]:
    """Parse a program's own options together with overrides of the config file that --config names.

    `--help` prints both kinds of options, with the file's values as defaults, and exits.

    Args:
        arguments: a dataclass with a field `config` and no field that the config has.
        argv: the words of the command line.
        prog: name of the program.
        description: text of --help.
        kinds: returns the types that get_config() may return; called only if there is a file.

    Raises:
        ConfigError: as `load_config`.
    """
    import tyro  # reading a config file does without

    path = _option(argv, "--config")
    if path is None:
        own = parse(arguments, list(argv), prog=prog, description=description)
        return own, load_config(own.config)  # reached only when `config` has a default
    config = _read(Path(path), kinds())
    if "--help" in argv or "-h" in argv:
        config, left_out = _with_one_bucket(config)
        description += left_out
    own_options, settings = (Annotated[kind, tyro.conf.arg(name="")] for kind in (arguments, type(config)))
    fields: list[Any] = [("own", own_options), ("config", settings, dataclasses.field(default=config))]
    both = dataclasses.make_dataclass("CommandLine", fields)
    both.__doc__ = description
    parsed = parse(both, list(argv), prog=prog, description=description)
    return parsed.own, parsed.config


def _with_one_bucket(config: Any) -> tuple[Any, str]:
    """The config for --help, and what it says of the buckets that are not listed: there may be a hundred."""
    buckets = getattr(config, "buckets", ())
    if not isinstance(buckets, tuple) or len(buckets) < 2:
        return config, ""
    said = (f"\n\nOf {len(buckets)} buckets the first alone is listed; the others have the same options, up to "
            f"--buckets.{len(buckets) - 1}.batch.")  # fmt: skip
    return dataclasses.replace(config, buckets=buckets[:1]), said


def to_dict(settings: Any) -> Any:
    """Return settings as dictionaries, lists, numbers and strings for JSON. Values of several kinds name their `kind`.

    Numbers that JSON lacks become strings ("inf"), as does anything else that is not data.
    """
    if dataclasses.is_dataclass(settings):
        values = {field.name: to_dict(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
        # A two-stage detector's have no kind, as before there were others.
        several = isinstance(settings, DataSource | DetectorSettings) and type(settings) is not DetectorConfig
        return {"kind": type(settings).__name__, **values} if several else values
    if isinstance(settings, Mapping):
        return {str(key): to_dict(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [to_dict(value) for value in settings]
    if isinstance(settings, float) and not math.isfinite(settings):
        return str(settings)
    if isinstance(settings, functools.partial):
        return {"function": to_dict(settings.func), "arguments": to_dict([*settings.args, settings.keywords])}
    if inspect.isroutine(settings):
        return _function(settings)
    return settings if settings is None or isinstance(settings, bool | int | float | str) else repr(settings)


def _function(function: Callable) -> str:
    """The name of a function and a digest of its text, by which results of another one are told from its own."""
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        return f"{name} {ledger.digest(inspect.getsource(function))}"
    except (OSError, TypeError):  # made without a file
        return name


def differences(before: Any, after: Any) -> list[str]:
    """Return the differences of two settings (dataclasses, or results of to_dict) as lines "key: x -> y", by key."""
    return ledger.differences(to_dict(before), to_dict(after))


def detection_settings(config: Config) -> dict[str, Any]:
    """Return the settings that detections depend on, beside weights and images, as JSON data."""
    others = ("name", "data", "training", "shipped", "model", "focus_weights", "window", "metric")
    settings = {name: value for name, value in to_dict(config).items() if name not in others}
    return settings if config.rules else {name: value for name, value in settings.items() if name != "rules"}


def _read(path: Path, kinds: tuple[type, ...]) -> Any:
    """Run a config file. Any error in it becomes one line that names the file and the line in it."""
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise ConfigError(f"config file {path} {what}; give the path of a file that defines get_config()")
    try:
        names = runpy.run_path(str(path))
        if not callable(names.get("get_config")):
            raise ConfigError(f"config file {path} defines no get_config(); add `def get_config() -> Config`")
        config = names["get_config"]()
    except AutoFocusError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"config file {path}, line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"config file {path}, line {lines[-1]}" if lines else f"config file {path}"
        hint = "; Config.weights is called Config.shipped now" if "argument 'weights'" in str(error) else ""
        raise ConfigError(f"{where}: {type(error).__name__}: {_one_line(str(error))}{hint}") from None
    if not isinstance(config, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"get_config() of {path} returned {type(config).__name__}; this program wants a {wanted} of "
                          "autofocus_jax")  # fmt: skip
    return config


def parse(kind: type, argv: list[str], **options: Any) -> Any:
    """Return a dataclass `kind` from a command line, by tyro.cli with its options. --help prints and exits.

    Raises:
        ConfigError: the command line is wrong.
    """
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            # AvoidSubcommands: an optional part keeps the kind its default has, so that its settings stay options.
            return tyro.cli(kind, args=argv, config=(tyro.conf.AvoidSubcommands,), **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(_condense(complaint.getvalue())) from None


def _condense(box: str) -> str:
    """The first paragraph of tyro's box as one line, with the nearest option when it proposes some."""
    # On a terminal without UTF-8 the box has blanks for its sides, and a rule below the title.
    lines = [line.strip(" │") for line in box.splitlines()]
    title, *lines = [line for line in lines if line and not line.startswith("╰")] or [""]
    if not title.startswith("╭"):
        lines = lines[1:]
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if set(line) <= set("─-"):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    proposals = [p[1].split()[0] for p in paragraphs if len(p) > 1 and p[0].startswith("Perhaps you meant")]
    hint = f"; did you mean {proposals[0]}?" if proposals else "; --help lists the options"
    return _one_line(" ".join(paragraphs[0])) + hint


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _option(argv: Sequence[str], name: str) -> str | None:
    """The value of an option given as `NAME VALUE` or `NAME=VALUE`; None without one."""
    for position, word in enumerate(argv):
        if word == name and position + 1 < len(argv) and not argv[position + 1].startswith("--"):
            return argv[position + 1]
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None
