"""YAML of strangers, read as text and bounded: a few aliases of aliases could stand for more than memory holds."""

from __future__ import annotations

import itertools
import math
from typing import Any

import yaml

MOST = 10**6  # values of a file with every alias written out


def texts_of(content: str) -> Any:
    """Return dictionaries, lists and strings of YAML; every value is text, as it is written.

    YAML 1.1 would make booleans of the names on, off, yes and no.

    Raises:
        yaml.YAMLError, RecursionError: it is no YAML, or too deep.
        ValueError: its aliases stand for more than `MOST` values, or a mapping has a key twice.
    """
    loader = yaml.BaseLoader(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST:
            raise ValueError(f"its aliases stand for more than {MOST} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many values a node holds with every alias written out; infinite for one that holds itself."""
    if node not in known:
        known[node] = math.inf  # for those inside
        if isinstance(node, yaml.MappingNode):
            _require_single_keys(node)
        parts = () if isinstance(node, yaml.ScalarNode) else node.value
        parts = itertools.chain(*parts) if isinstance(node, yaml.MappingNode) else parts
        known[node] = 1 + sum(_count(part, known) for part in parts)
    return known[node]


def _require_single_keys(node: yaml.MappingNode) -> None:
    """Raise ValueError for a key that is there twice, of which a parser would keep the last one in silence."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(f"{key.value!r} is there twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
