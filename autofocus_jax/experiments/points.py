"""Points of a search: real runs of the cascade, kept on disk at once, so that an interrupted search continues."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autofocus_jax.config import Config
from autofocus_jax.experiments.levels import FIX
from autofocus_jax.files import write_json
from autofocus_jax.focus.cascade import AnyDetect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.ledger import Ledger, digest
from autofocus_jax.planning.rule_search import Point, Rules, chip_functions, describe
from autofocus_jax.structures import AutoFocusError, Dataset

Run = Callable[[Rules], Point]


def headline(config: Config, scores: Mapping[str, float | None]) -> tuple[float, float]:
    """Return the two scores that a point is judged by, by the config's metric; NaN without objects."""
    first, second = (scores[key] for key in measure.HEADLINES[config.metric])
    return (math.nan if first is None else first, math.nan if second is None else second)


def real_point(
    config: Config, rules: Rules, detect: AnyDetect, dataset: Dataset, chosen: Sequence[int] | None,
    plan: Plan | None = None,
) -> Point:  # fmt: skip
    """Return the result of a real run of the cascade with these rules, in `plan` or else the config's."""
    plan = Plan.of(config, chip_functions(rules)) if plan is None else plan
    found = measure.metrics(measure.measure(dataset, detect, plan, metric=config.metric, indices=chosen))
    return Point(rules, *headline(config, found), found["pixels_per_image"])


def kept_points(run: Run, folder: Path, origin: Mapping[str, Any]) -> Run:
    """Wrap `run` with a cache on disk: rules that were evaluated before are not evaluated again.

    Points of each origin have their own folder, FOLDER/DIGEST/points.json.

    Args:
        run: function from rules to their point.
        folder: of the cache.
        origin: JSON data of everything else that a point depends on.

    Raises:
        AutoFocusError: from the wrapped run: the file is damaged or cannot be written.
        LedgerError: another process works on points of the same origin.
    """
    ledger = Ledger(folder / digest(origin), origin, "origin.json", makes=("points.json",), fix=FIX)

    def kept(rules: Rules) -> Point:
        key = json.dumps(describe(rules))
        with ledger.claim():
            known = _read(ledger.folder / "points.json")
            if key not in known:
                point = run(rules)
                known[key] = {"AP": point.ap, "AP50": point.ap50, "pixels": point.pixels}
                write_json(ledger.folder / "points.json", known)
        values = (float("nan") if known[key][name] is None else known[key][name] for name in ("AP", "AP50", "pixels"))
        return Point(rules, *values)

    return kept


def _read(path: Path) -> dict[str, dict[str, float | None]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if all(point.keys() == {"AP", "AP50", "pixels"} for point in known.values()):
            return known
        reason = "it holds something else"
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error)
    raise AutoFocusError(f"{path} cannot be read ({reason}); remove it, and its points are run again")
