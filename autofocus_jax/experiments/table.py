"""Tables 1 and 2: AP, pixels and speed of every row, the paper's beside ours, as Markdown and JSON.

Ours come from files that evaluate.py wrote (--metrics), or from running the detector now over the images of --split.
Rows scored as COCO does make Table 1, those scored as PASCAL VOC does (--metric voc) Table 2.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments import paper
from autofocus_jax.experiments.detector import DetectorInputs, load_detector, open_images
from autofocus_jax.experiments.inputs import describe, indices
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.metrics import voc
from autofocus_jax.structures import AutoFocusError

NOTES = (
    "Copied rows are on COCO test-dev and VOC 2007 test with ResNet-101 where they say nothing else, those of the "
    "release by what the network was pre-trained on. Ours are on the images that their source names: the form is the "
    "paper's, the APs cannot be compared.",
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
    """metrics.json files of evaluate.py, with either --metric, as LABEL=FILE or FILE; none: run the detector now"""
    voc: bool = False
    """when the detector runs now: score as PASCAL VOC does, too (Table 2), not only where the config's metric is voc"""


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment; with --metrics it reads files only."""
    if arguments.metrics:
        ours = [row for given in arguments.metrics for row in read_metrics(given)]
        facts: dict[str, Any] = {"metrics": list(arguments.metrics)}
    else:
        ours, facts = measured_rows(arguments, config, track)
    of_coco = [row for row in ours if "AP" in row]
    of_voc = [row for row in ours if "voc_ap50" in row]
    first = [*paper.TABLE_1, *paper.RELEASED, *of_coco] if of_coco else []
    second = [*paper.TABLE_2, *of_voc] if of_voc else []
    tables = [part for part in (("Table 1", first, FIRST), ("Table 2, VOC 2007", second, SECOND)) if part[1]]
    rows = [{key: row.get(key) for key in KEYS} for row in (*first, *(row for row in second if "AP" not in row))]
    shown = tuple(
        table(title, [_columns(row, columns) for row in part], {name: form for name, (_, form) in columns.items()})
        for title, part, columns in tables
    )
    texts = [f"**{title}**\n\n{markdown(part, columns)}" for title, part, columns in tables]
    return Result(facts, rows, shown, None, NOTES, markdown="\n\n".join([*texts, *NOTES]) + "\n")


def measured_rows(arguments: Arguments, config: Config, track: Track) -> tuple[list[dict], dict[str, Any]]:
    """Return rows of a run of every scale, the pyramid and AutoFocus, and a description of the run, for JSON.

    A compiled detector compiles all its programs first, so that images/s do not count compiling.
    """
    from autofocus_jax.inference.compiled import CompiledDetector  # here, so that --metrics goes without JAX

    dataset = open_images(arguments, config)
    trained, chosen = load_detector(arguments, config), indices(arguments, dataset)
    if isinstance(trained.detect, CompiledDetector):
        trained.detect.warm_up()
    source = f"{config.name}, {arguments.split}, {len(chosen)} images"
    rows = []
    for name, plan in track(measure.rows(Plan.of(config)).items(), "rows"):
        measured = measure.measure(dataset, trained.detect, plan, metric=config.metric, indices=chosen)
        values = _by_table({"method": name, "source": source, **measure.metrics(measured)})
        if arguments.voc and "voc_ap50" not in values:
            scores = voc.evaluate(dataset, measured.run.detections, measured.run.indices)
            for key, value in (("voc_ap50", scores.ap50), ("voc_ap70", scores.ap70)):
                values[key] = None if math.isnan(value) else value
        rows.append(values)
    return rows, describe(arguments, config, len(chosen))


def read_metrics(given: str) -> list[dict]:
    """Return the rows of a metrics.json, given as LABEL=FILE or FILE.

    Raises:
        AutoFocusError: the file is no metrics.json.
    """
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
        for key in ("AP50", "side", "AP" if "AP70" not in row else "AP70"):
            if key not in row:
                raise ConfigError(f"metrics {path}: row {method!r} has no {key}; give a metrics.json of evaluate.py")
    source = label if equals else str(path)
    return [_by_table({"method": method, "source": source, **row}) for method, row in content.items()]


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]]) -> str:
    """Return a table in Markdown. columns: heading -> key of a row and format. Missing values are "-"."""
    lines = [list(columns), ["---", *("--:" for _ in list(columns)[1:])]]
    lines += [[str(value) for value in _columns(row, columns).values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_table(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of metrics.json with the keys of its table: AP50 of --metric voc is not the AP50 of COCO."""
    renamed = {"AP50": "voc_ap50", "AP70": "voc_ap70"} if "AP70" in row else {}
    return {renamed.get(key, key): value for key, value in row.items()}


def _columns(row: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {name: "-" if row.get(key) is None else form.format(row[key]) for name, (key, form) in columns.items()}
