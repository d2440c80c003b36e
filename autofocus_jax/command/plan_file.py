"""A plan in a JSON file, as `autofocus suggest --detector` writes it and other commands take it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from autofocus_jax.config import ConfigError, StackingConfig
from autofocus_jax.config.load import to_dict
from autofocus_jax.config.stored import settings_from
from autofocus_jax.files import read_regular
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import Scale


@dataclasses.dataclass(frozen=True)
class _Stored:
    """Content of the file: a plan of loose chips with ChipRules."""

    scales: tuple[Scale, ...]
    stacking: StackingConfig
    window: int = 32


def plan_text(plan: Plan) -> str:
    """Return the JSON text of a plan, whose buckets must be Loose and whose rules those of its scales."""
    if not isinstance(plan.buckets, Loose) or plan.rules is not None:
        raise ConfigError("only a plan of loose chips and with the rules of its scales can be written")
    return json.dumps(to_dict(_Stored(plan.scales, plan.stacking, plan.window)), indent=1)


def read_plan(path: str) -> Plan:
    """Return the plan of a file; ConfigError, which names the file, for one that holds none."""
    try:
        content = json.loads(read_regular(Path(path).expanduser()))
    except OSError as error:
        raise ConfigError(f"plan {path} cannot be read ({error.strerror}); give a file that suggest wrote") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"plan {path} is not JSON ({error}); give a file that suggest wrote") from None
    stored = settings_from(_Stored, content, f"plan {path}")
    return Plan(stored.scales, Loose(), stored.stacking, window=stored.window)
