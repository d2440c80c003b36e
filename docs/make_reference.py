"""Writes docs/reference.md from the docstrings of the public names: python docs/make_reference.py

`--check` writes nothing and fails when the file is not up to date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path

import autofocus_jax

TARGET = Path(__file__).with_name("reference.md")


def reference() -> str:
    """The whole page."""
    lines = ["# Reference", "", "The public names of `autofocus_jax`, by module. Made from their docstrings by "
             "`python docs/make_reference.py`.", ""]  # fmt: skip
    for module, names in sorted(autofocus_jax._PUBLIC.items()):
        lines += [f"## autofocus_jax.{module}", ""]
        for name in sorted(names):
            lines += _entry(name, getattr(autofocus_jax, name))
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, value: object) -> list[str]:
    """A heading, the signature and the docstring of one name."""
    value = inspect.unwrap(value) if callable(value) else value  # what a decorator such as functools.cache hides
    text = inspect.getdoc(value) if inspect.isclass(value) or inspect.isfunction(value) else None
    if inspect.isclass(value):
        head, members = f"class {name}", _members(value)
    elif inspect.isfunction(value):
        head, members = f"{name}{_signature(value)}", []
    else:  # a number, or the type of a function
        shown = _without_addresses(str(value)).replace("collections.abc.", "").replace("autofocus_jax.structures.", "")
        head, members = f"{name} = {shown.replace('numpy.', 'np.')}", []
    # A generated docstring of a dataclass or NamedTuple only repeats its fields.
    text = "" if text is None or text.startswith(f"{name}(") else text
    return [f"### {name}", "", "```python", *[head, *(f"    {member}" for member in members)], "```", "",
            *([text, ""] if text else [])]  # fmt: skip


def _members(kind: type) -> list[str]:
    if dataclasses.is_dataclass(kind):
        fields = [f"{field.name}: {field.type}" for field in dataclasses.fields(kind)]
    else:
        fields = [f"{field}: {kind.__annotations__.get(field, '')}" for field in getattr(kind, "_fields", ())]
    methods = [f"{name}{_signature(item)}" for name, item in vars(kind).items()
               if inspect.isfunction(item) and (not name.startswith("_") or name == "__call__") and item.__doc__
               and item.__qualname__.startswith(f"{kind.__name__}.")]  # fmt: skip
    return fields + methods


def _signature(function: object) -> str:
    signature = inspect.signature(function)
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    shown = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return _without_addresses(shown)


def _without_addresses(text: str) -> str:
    """Functions and classes by their names, as no two runs print the same address."""
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", text))


def main() -> int:
    text = reference()
    if "--check" in sys.argv[1:]:
        good = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        print("up to date" if good else f"{TARGET} is not up to date; run python docs/make_reference.py")
        return 0 if good else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
