"""Tables 1 and 2: AP, pixels and speed of every row, the paper's beside ours, as Markdown and JSON.

Ours come from files that evaluate.py wrote (--metrics), or from running the detector now over the images of --split.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autofocus_jax import evaluation
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments.detector import DetectorInputs, load_detector, open_images
from autofocus_jax.experiments.inputs import describe, indices
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.metrics import voc
from autofocus_jax.structures import AutoFocusError

PAPER, RELEASE = "paper, copied", "release, copied"

# What could be checked: the paper's abstract, and the page of the authors' release. COCO test-dev, ResNet-101.
COPIED = (
    {"method": "SNIPER, full pyramid", "side": 1910.0, "source": PAPER},
    {"method": "AutoFocus", "AP": 47.9, "AP50": 68.3, "images_per_second": 6.4, "source": PAPER},
    {
        "method": "SNIPER, from OpenImages", "AP": 47.8, "AP50": 68.2, "APs": 31.5,
        "APm": 50.4, "APl": 59.8, "source": RELEASE,
    },
    {
        "method": "SNIPER, from ImageNet", "AP": 46.5, "AP50": 67.5, "APs": 30.0,
        "APm": 49.4, "APl": 58.4, "source": RELEASE,
    },
)  # fmt: skip
NOTES = (
    "Copied rows are on COCO test-dev with ResNet-101, those of the release by what the network was pre-trained on. "
    "Ours are on the images that their source names: the form is the paper's, the APs cannot be compared. Of the "
    "paper's numbers only those that could be checked are here, from its abstract. It also says that AutoFocus matches "
    "the AP of the full pyramid, runs 2.5 times as fast (images/s on a Titan X) and loses 1 AP at 5 times fewer "
    "pixels. The numbers of its Table 2 could not be checked.",
)

FIRST = {  # Table 1: column -> key of a row, format
    "method": ("method", "{}"), "side": ("side", "{:.0f}"), "AP": ("AP", "{:.1f}"), "AP50": ("AP50", "{:.1f}"),
    "S": ("APs", "{:.1f}"), "M": ("APm", "{:.1f}"), "L": ("APl", "{:.1f}"),
    "images/s": ("images_per_second", "{:.2f}"), "source": ("source", "{}"),
}  # fmt: skip
SECOND = {  # Table 2, VOC 2007's 11-point AP
    "method": ("method", "{}"), "side": ("side", "{:.0f}"), "AP at IoU 0.5": ("voc_ap50", "{:.1f}"),
    "AP at IoU 0.7": ("voc_ap70", "{:.1f}"), "source": ("source", "{}"),
}  # fmt: skip
KEYS = tuple(dict.fromkeys(key for key, _ in (*FIRST.values(), *SECOND.values())))


@dataclasses.dataclass(frozen=True)
class Arguments(DetectorInputs):
    metrics: tuple[str, ...] = ()
    """metrics.json files of evaluate.py, as LABEL=FILE or FILE; none: run the detector now"""
    voc: bool = False
    """when the detector runs now: score as PASCAL VOC does, too (Table 2)"""


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """The experiment; with --metrics it reads files only."""
    if arguments.metrics:
        ours = [row for given in arguments.metrics for row in read_metrics(given)]
        facts: dict[str, Any] = {"metrics": list(arguments.metrics)}
    else:
        ours, facts = measured_rows(arguments, config, track)
    rows = [{key: row.get(key) for key in KEYS} for row in (*COPIED, *ours)]
    second = [row for row in rows if row["voc_ap50"] is not None]
    tables = [("Table 1", rows, FIRST), *([("Table 2, VOC 2007", second, SECOND)] if second else [])]
    shown = tuple(
        table(title, [_columns(row, columns) for row in part], {name: form for name, (_, form) in columns.items()})
        for title, part, columns in tables
    )
    parts = [f"**{title}**\n\n{markdown(part, columns)}" for title, part, columns in tables]
    return Result(facts, rows, shown, None, NOTES, markdown="\n\n".join([*parts, *NOTES]) + "\n")


def measured_rows(arguments: Arguments, config: Config, track: Track) -> tuple[list[dict], dict[str, Any]]:
    """Rows of a run of every scale, the pyramid and AutoFocus, and what was run, for JSON.

    A compiled detector compiles all its programs first, so that images/s do not count it.
    """
    from autofocus_jax.inference.compiled import CompiledDetector  # here, so that --metrics goes without JAX

    dataset = open_images(arguments, config)
    trained, chosen = load_detector(arguments, config), indices(arguments, dataset)
    if isinstance(trained.detect, CompiledDetector):
        trained.detect.warm_up()
    source = f"{config.name}, {arguments.split}, {len(chosen)} images"
    rows = []
    for row in track(evaluation.rows(config), "rows"):
        measured = evaluation.measure(config, row, trained.detect, dataset, chosen)
        values = {"method": row.name, "source": source, **evaluation.metrics(measured)}
        if arguments.voc:
            scores = voc.evaluate(dataset, measured.run.detections, measured.run.indices)
            for key, value in (("voc_ap50", scores.ap50), ("voc_ap70", scores.ap70)):
                values[key] = None if math.isnan(value) else value
        rows.append(values)
    return rows, describe(arguments, config, len(chosen))


def read_metrics(given: str) -> list[dict]:
    """Rows of a metrics.json, given as LABEL=FILE or FILE; AutoFocusError when it is none."""
    label, equals, name = given.partition("=")
    path = Path(name if equals else given).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AutoFocusError(f"metrics {path} cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:
        raise AutoFocusError(f"metrics {path} are not JSON ({error}); give a metrics.json of evaluate.py") from None
    if not isinstance(content, dict) or not content or not all(isinstance(row, dict) for row in content.values()):
        raise AutoFocusError(f"metrics {path} hold no rows; give a metrics.json of evaluate.py")
    for method, row in content.items():
        for key in ("AP", "AP50", "side"):
            if key not in row:
                raise ConfigError(f"metrics {path}: row {method!r} has no {key}; give a metrics.json of evaluate.py")
    return [{"method": method, "source": label if equals else str(path), **row} for method, row in content.items()]


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]]) -> str:
    """A table in Markdown; columns: heading -> key of a row and format. What a row lacks is "-"."""
    lines = [list(columns), ["---", *("--:" for _ in list(columns)[1:])]]
    lines += [[str(value) for value in _columns(row, columns).values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _columns(row: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {name: "-" if row.get(key) is None else form.format(row[key]) for name, (key, form) in columns.items()}
