"""Points of a search that are kept on disk as soon as they are known, so that an interrupted search goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autofocus_jax.experiments.result import write_json
from autofocus_jax.planning.rule_search import Point, Rules, describe
from autofocus_jax.structures import AutoFocusError

Run = Callable[[Rules], Point]


def kept_points(run: Run, folder: Path, origin: Mapping[str, Any]) -> Run:
    """A `run` that asks the given one only for what is not kept in the folder yet.

    origin: everything but the rules that a point depends on, as JSON holds it; each origin has a file of its own. The
    run raises AutoFocusError when that file is damaged or cannot be written.
    """
    path = folder / f"points-{hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16]}.json"
    known = _read(path)

    def kept(rules: Rules) -> Point:
        key = json.dumps(describe(rules))
        if key not in known:
            point = run(rules)
            known[key] = {"AP": point.ap, "AP50": point.ap50, "pixels": point.pixels}
            write_json(path, {"origin": origin, "points": known})
        values = (float("nan") if known[key][name] is None else known[key][name] for name in ("AP", "AP50", "pixels"))
        return Point(rules, *values)

    return kept


def _read(path: Path) -> dict[str, dict[str, float | None]]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["points"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AutoFocusError(f"{path} cannot be read ({error}); remove it, and its points are run again") from None
