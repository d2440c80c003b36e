"""`autofocus buckets`: chooses the buckets of a config for a data set: the shapes that waste the fewest pixels."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from autofocus_jax import files
from autofocus_jax.command.console import Screen
from autofocus_jax.command.options.buckets import Arguments
from autofocus_jax.config import Config, ConfigError, open_split
from autofocus_jax.data.coco import CocoDataset
from autofocus_jax.errors import ChipsFileError
from autofocus_jax.focus.buckets import BucketError, fit, shapes
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.pyramid import level_size
from autofocus_jax.planning.bucket_choice import (
    ChipSizes,
    Choice,
    choose_shapes,
    count_sizes,
    padding,
    padding_by_count,
    shrunk,
    with_batches,
)
from autofocus_jax.structures import Bucket, Dataset


def read_chips(path: Path) -> tuple[ChipSizes, ChipSizes | None]:
    """Return the chip sizes of a recorded run and, if the file has "levels", the sizes of whole levels.

    The file is JSON: {"chips": [[height, width, count], ...], "levels": ...}, sizes in chip px. Rows may repeat a size;
    other keys are ignored.

    Raises:
        ChipsFileError: the file is missing or malformed.
    """
    try:
        content = json.loads(files.read_regular(path))
    except OSError as error:
        raise ChipsFileError(f"chips {path} cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise ChipsFileError(f"chips {path} are not JSON ({error}); give a recorded run") from None
    if not isinstance(content, dict):
        content = {}
    return _rows(content, "chips", path), _rows(content, "levels", path) if "levels" in content else None


def _rows(content: dict, key: str, path: Path) -> ChipSizes:
    rows = content.get(key)
    if not isinstance(rows, list):
        raise ChipsFileError(f'{path} has no list "{key}"; want {{"{key}": [[height, width, count], ...]}}')
    for position, row in enumerate(rows):
        if not (isinstance(row, list) and len(row) == 3 and all(type(n) is int and 0 < n < 2**31 for n in row)):
            raise ChipsFileError(
                f"{path}: {key}[{position}] is {str(row)[:80]}; want [height, width, count], whole numbers from 1"
            )
    table = np.array(rows, np.int64).reshape(-1, 3)
    return count_sizes(table[:, :2], table[:, 2])


def oracle_sizes(config: Config, dataset: Dataset, console: Screen) -> tuple[ChipSizes, ChipSizes]:
    """Return sizes over a whole data set: of the chips of all scales with perfect focus maps, and of whole levels."""
    chips, levels = [np.zeros((0, 2), np.int64)], []
    plan = Plan(config.scales)  # without the present buckets: chips keep their own sizes
    with console.progress() as progress:
        for index in progress.track(range(len(dataset)), description="chips"):
            info, truth = dataset.info(index), dataset.ground_truth(index)
            stages = oracle_chips((info.height, info.width), truth, plan, config.focus_range)
            chips += [stage.sizes for stage in stages]
            levels += [level_size(info.height, info.width, scale) for scale in config.scales]
    return count_sizes(np.concatenate(chips)), count_sizes(np.array(levels, np.int64))


def snippet(buckets: Sequence[Bucket]) -> str:
    """Return lines for a config file: the buckets as a tuple of (height, width, chips a batch)."""
    rows = ", ".join(f"({b.height},\0{b.width},\0{b.batch})" for b in buckets)
    lines = textwrap.wrap(rows + ",", 116, break_long_words=False, break_on_hyphens=False)
    body = "\n".join(f"    {line}" for line in lines).replace("\0", " ")
    return f"BUCKETS = (  # height, width, chips a batch\n{body}\n)  # fmt: skip"


def _sizes(arguments: Arguments, config: Config, console: Screen) -> tuple[ChipSizes, ChipSizes | None, str]:
    """Sizes of the chips to choose for, those of whole levels where they are known, and their source."""
    given = {name: getattr(arguments, name) for name in ("annotations", "split", "chips")}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        came = " and ".join(f"--{name}" for name in given) or "none of them"
        raise ConfigError(f"want one of --annotations FILE, --split NAME and --chips FILE; got {came}")
    if arguments.chips is not None:
        chips, levels = read_chips(Path(arguments.chips))
        if arguments.levels and levels is None:
            raise ConfigError(f'--levels wants "levels" in {arguments.chips}, as autofocus evaluate writes them')
        return chips, levels, f"recorded in {arguments.chips}"
    if arguments.split is not None:
        dataset = open_split(config, arguments.split)
    else:
        path = Path(arguments.annotations)
        dataset = CocoDataset(path.parent, path)
    return *oracle_sizes(config, dataset, console), f"oracle, {len(dataset)} images"


def _table(chips: ChipSizes, buckets: Sequence[Bucket], shrink: float, title: str) -> Table:
    """Return a table of the chips in each bucket; shares are of all chips and of all padded pixels."""
    table = Table("height", "width", "batch", "chips", "pixels", "padding", title=title)
    chosen, sizes = fit(chips.sizes, shapes(buckets), shrink)
    own = sizes.prod(axis=1) * chips.counts
    padded = shapes(buckets).prod(axis=1)[chosen] * chips.counts
    for index, bucket in enumerate(buckets):
        mine = chosen == index
        adds = f"{100 * (padded[mine].sum() / own[mine].sum() - 1):.1f}%" if mine.any() else "-"
        shares = chips.counts[mine].sum() / chips.counts.sum(), padded[mine].sum() / padded.sum()
        table.add_row(*map(str, dataclasses.astuple(bucket)), *(f"{100 * share:.1f}%" for share in shares), adds)
    return table


def _padding(chips: ChipSizes, levels: ChipSizes | None, buckets: Sequence[Bucket], shrink: float) -> str:
    chosen = shapes(buckets)
    try:
        text = f"padding adds {100 * padding(chips, chosen, shrink):.2f}% pixels to the chips"
        return text if levels is None else f"{text}, {100 * padding(levels, chosen, shrink):.2f}% to whole levels"
    except BucketError as error:
        return str(error)


def _batch_pixels(arguments: Arguments, config: Config, choice: Choice) -> int:
    if arguments.batch_pixels is not None:
        return arguments.batch_pixels
    fits = max(bucket.batch * bucket.height * bucket.width for bucket in config.buckets)
    return max(fits, int(choice.shapes.prod(axis=1).max()))


def run(arguments: Arguments, config: Config, console: Screen) -> int:
    """Run the command: read or make the chips, choose, print; return its exit code."""
    if arguments.count < 1:
        raise ConfigError(f"--count {arguments.count}; want at least 1 bucket")
    if arguments.batch_pixels is not None and arguments.batch_pixels < 1:
        raise ConfigError(f"--batch-pixels {arguments.batch_pixels}; want at least 1; 1 makes batches of one chip")
    chips, levels, source = _sizes(arguments, config, console)
    wanted = chips
    if arguments.levels and levels is not None:
        wanted = count_sizes(*(np.concatenate(parts) for parts in zip(chips, levels)))
    wanted = shrunk(wanted, config.shrink)
    choice = choose_shapes(wanted, config.scales, arguments.count)
    buckets = with_batches(choice.shapes, _batch_pixels(arguments, config, choice))
    curve = padding_by_count(wanted, config.scales, 2 * arguments.count)
    shown = [number for number in curve if number % max(1, arguments.count // 4) == 0]

    shrink = config.shrink
    console.print(_table(chips, buckets, shrink, f"{config.name}, {chips.counts.sum()} chips ({source})"))
    lines = [
        f"before: {len(config.buckets)} buckets, {_padding(chips, levels, config.buckets, shrink)}",
        f"after: {len(buckets)} buckets, {_padding(chips, levels, buckets, shrink)}",
        *([f"chips may lose {100 * shrink:g}% of their sides to fit; what follows is of such chips"] if shrink else []),
        f"chosen for {'chips and levels' if arguments.levels else 'the chips'}: {100 * choice.padding:.2f}% added "
        f"(sides multiples of {choice.step} px, the largest levels included)",
        "by number of buckets, greedily: " + ", ".join(f"{number}: {100 * curve[number]:.1f}%" for number in shown),
        "",
        snippet(buckets),
    ]
    console.print("\n".join(lines), soft_wrap=True)
    return 0
