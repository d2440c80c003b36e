"""`autofocus convert`: turns a file of weights into this program's format: weights for one config, in one file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from rich import box
from rich.table import Table

from autofocus_jax.command.console import Screen
from autofocus_jax.command.options.convert import Arguments
from autofocus_jax.config import Config
from autofocus_jax.config.load import to_dict
from autofocus_jax.files import require_regular
from autofocus_jax.machine.terminal import printable
from autofocus_jax.weights import mxnet, pickled, safetensors, sniper, torch
from autofocus_jax.weights.conversion import Fitted, Foreign, fit, module, was_drawn
from autofocus_jax.weights.safetensors import WeightsError, flatten


def run(arguments: Arguments, config: Config, console: Screen) -> int:
    """Write the output and print what came from where; return the exit code. WeightsError or FitError, one line."""
    source = Path(arguments.file)
    with console.progress() as progress:
        task = progress.add_task("reading", total=None)
        advance = lambda what, done, total: progress.update(  # noqa: E731
            task, description=what, completed=done, total=total
        )
        foreign = _foreign(arguments, config, source, advance)
        advance("fitting", 0, 1)
        fitted = fit(foreign, config, str(source))
        advance("writing", 0, 1)
        metadata = {"source": source.name, "kind": foreign.kind, "untrained": sorted({module(n) for n in fitted.drawn})}
        _save(arguments, fitted, config, metadata)
    console.print(_table(foreign, fitted, f"{source.name}: {foreign.kind}"))
    for line in _summary(foreign, fitted):
        console.say(line)
    size = Path(arguments.output).stat().st_size
    console.say(f"written: {arguments.output} ({size / 1e6:.1f} MB)")
    return 0


def _foreign(arguments: Arguments, config: Config, source: Path, advance: Callable[[str, int, int], None]) -> Foreign:
    """Read a file of any known kind, recognized by its first bytes and its names."""
    kind = _kind(source)
    if kind == "own":
        return _own(source)
    if kind == "mxnet":
        arrays = mxnet.read(source, lambda done, total: advance("reading", done, total))
    else:
        advance("reading", 0, 1)
        arrays = pickled.read(source) if kind == "pth" else torch.read_safetensors(source)
    if sniper.is_sniper(arrays):
        return sniper.convert(arrays, config.detector, source, arguments.folded_boxes)
    if torch.kind_of(arrays, config.detector) is not None:
        own = (config.detector.pixel_mean, config.detector.pixel_deviation)
        pixels = {"auto": None, "imagenet": torch.IMAGENET, "half": torch.HALF, "config": own}[arguments.pixels]
        return torch.convert(arrays, config.detector, source, pixels)
    first = ", ".join(list(arrays)[:3]) or "none"
    raise WeightsError(f"weights {source} have names that are not known ({first}, …); want those of the authors' "
                       "MXNet networks, or of torchvision's or timm's ResNets")  # fmt: skip


def _kind(source: Path) -> Literal["mxnet", "pth", "safetensors", "own"]:
    try:
        require_regular(source)
        with source.open("rb") as file:
            head = file.read(16)
            length = int.from_bytes(head[:8], "little")
            header = head[8:] + file.read(min(length, 1 << 26) - 8) if head[8:9] == b"{" and length >= 8 else b""
    except OSError as error:
        raise WeightsError(f"weights {source} cannot be read ({error.strerror}); give a file of weights") from None
    if length == mxnet.LIST_MAGIC:
        return "mxnet"
    if header:
        with contextlib.suppress(ValueError, AttributeError, TypeError, RecursionError):
            if json.loads(header).get("__metadata__", {}).get("format", "").startswith("autofocus_jax"):
                return "own"
        return "safetensors"
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "pth"
    raise WeightsError(f"weights {source} are of no known kind (first bytes {head[:8].hex(' ') or 'none'}); want "
                       "MXNet's .params, PyTorch's .pth or .safetensors")  # fmt: skip


def _own(source: Path) -> Foreign:
    variables, metadata = safetensors.load(source)
    again = metadata.get("untrained") or ()  # to be drawn again, and said so
    arrays = {name: array for name, array in flatten(variables).items() if not was_drawn(name, again)}
    backbone = metadata["config"].get("detector", {}).get("backbone", {}).get("kind", "v2")
    return Foreign("autofocus_jax weights", backbone, arrays, {name: name for name in arrays}, {}, [])


def _save(arguments: Arguments, fitted: Fitted, config: Config, metadata: dict) -> None:
    try:
        safetensors.save(arguments.output, fitted.variables, to_dict(config), metadata, np.dtype(arguments.dtype).type)
    except OSError as error:
        raise WeightsError(f"{arguments.output} cannot be written ({error.strerror}); give another --output") from None


def _table(foreign: Foreign, fitted: Fitted, title: str) -> Table:
    """A line for each part of the detector."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in ("part", "arrays", "numbers", "from"):
        side: Literal["left", "right"] = "left" if heading in ("part", "from") else "right"
        table.add_column(heading, justify=side, no_wrap=heading != "from")
    parts: dict[str, list[str]] = {}
    arrays, drawn = flatten(fitted.variables), set(fitted.drawn)
    for name in arrays:
        parts.setdefault(module(name), []).append(name)
    for part, names in sorted(parts.items()):
        random = sum(name in drawn for name in names)
        read = [foreign.origins[name] for name in names if name in foreign.origins and name not in drawn]
        shown = [f"{read[0]} …" if len(read) > 1 else read[0]] if read else []
        constants = len(names) - len(read) - random
        shown += [f"{constants} constants"] * (constants > 0) + [f"{random} drawn at random"] * (random > 0)
        table.add_row(part, str(len(names)), f"{sum(arrays[name].size for name in names):,}",
                      printable(", ".join(shown)))  # fmt: skip
    return table


def _summary(foreign: Foreign, fitted: Fitted) -> Iterator[str]:
    total = len(foreign.origins) + len(foreign.ignored) + len(foreign.unknown)
    unused = len(foreign.ignored) + len(foreign.unknown)
    yield f"{total} arrays in the file: {len(foreign.origins)} used, {unused} unused; {len(fitted.drawn)} missing"
    reasons: dict[str, list[str]] = {}
    for name, reason in foreign.ignored.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in [*reasons.items(), *([("not known", foreign.unknown)] if foreign.unknown else [])]:
        shown = ", ".join(names) if len(names) <= 8 else f"{names[0]} … {names[-1]} ({len(names)})"
        yield f"  unused, {reason}: {shown}"
    if fitted.drawn:
        parts = ", ".join(sorted({module(name) for name in fitted.drawn}))
        yield f"  missing, drawn at random, so train before you evaluate: {parts}"
    for note in foreign.notes:
        yield f"  note: {note}"
