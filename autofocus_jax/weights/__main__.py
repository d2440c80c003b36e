"""Turns a file of weights into this program's format: weights for one config, in one file.

Reads MXNet checkpoints and backbones of the paper's authors (.params), ResNets of torchvision and timm (.pth,
.safetensors) and this program's own files. A file of a backbone alone gives heads that are drawn at random, to train
from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from autofocus_jax.config import Config
from autofocus_jax.config_file import command_line, to_dict
from autofocus_jax.structures import AutoFocusError
from autofocus_jax.weights import mxnet, safetensors, sniper, torch
from autofocus_jax.weights.conversion import Fitted, Foreign, fit, module, was_drawn
from autofocus_jax.weights.safetensors import WeightsError, flatten

_PROGRAM = "python -m autofocus_jax.weights"


@dataclasses.dataclass(frozen=True)
class Arguments:
    file: tyro.conf.Positional[str]
    """.params, .pth or .safetensors"""
    config: str
    """config file: Python that defines get_config()"""
    output: str
    """the .safetensors file to write"""
    dtype: Literal["float32", "float16"] = "float32"
    """of the kernels in the output; float16 halves it"""
    folded_boxes: bool = False
    """an MXNet file's bbox_pred_weight has the box deviations folded in (bbox_pred_weight_test is known to have)"""
    pixels: Literal["auto", "imagenet", "half", "config"] = "auto"
    """what a PyTorch file was trained with: ImageNet's mean and deviation, 127.5 for both, or what the config says"""


def convert(arguments: Arguments, config: Config, console: Console) -> None:
    """Writes the output and prints what came from where. Raises WeightsError or FitError, one line."""
    source = Path(arguments.file)
    with _progress(console) as advance:
        foreign = _foreign(arguments, config, source, advance)
        advance("fitting", 0, 1)
        fitted = fit(foreign, config, str(source))
        advance("writing", 0, 1)
        metadata = {"source": source.name, "kind": foreign.kind, "untrained": sorted({module(n) for n in fitted.drawn})}
        _save(arguments, fitted, config, metadata)
    console.print(_table(foreign, fitted, f"{source.name}: {foreign.kind}"))
    for line in _summary(foreign, fitted):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    size = Path(arguments.output).stat().st_size
    console.print(f"written: {arguments.output} ({size / 1e6:.1f} MB)", soft_wrap=True, markup=False, highlight=False)


def _foreign(arguments: Arguments, config: Config, source: Path, advance: Callable[[str, int, int], None]) -> Foreign:
    """Reads a file of any known kind, told by its first bytes and its names."""
    kind = _kind(source)
    if kind == "own":
        return _own(source)
    if kind == "mxnet":
        arrays = mxnet.read(source, lambda done, total: advance("reading", done, total))
    else:
        advance("reading", 0, 1)
        arrays = torch.read_pth(source) if kind == "pth" else torch.read_safetensors(source)
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


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """advance(what, done, total) shows how far one step has come."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


def _table(foreign: Foreign, fitted: Fitted, title: str) -> Table:
    """A line for each part of the detector."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading, justify in (("part", "left"), ("arrays", "right"), ("numbers", "right"), ("from", "left")):
        table.add_column(heading, justify=justify, no_wrap=heading != "from")
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
        table.add_row(part, str(len(names)), f"{sum(arrays[name].size for name in names):,}", ", ".join(shown))
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code. What goes wrong for the user's reasons is one line on stderr."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    try:
        arguments, config = command_line(Arguments, sys.argv[1:] if argv is None else argv, _PROGRAM, __doc__)
        convert(arguments, config, console)
    except AutoFocusError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
