"""Who imports whom (docs/architecture.md): reads the source, so that an import inside a function counts too."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "autofocus_jax"
GROUND = {"errors", "structures", "boxes", "files", "ledger", "config", "machine"}
LOOSE = 6  # modules at most beside the rooms, without __init__ and __main__

# Room (a folder or a file of the package) -> the rooms of ours that it may import, besides itself.
ROOMS = {
    "errors": set(),
    "structures": {"errors"},
    "machine": set(),
    "boxes": {"errors", "structures"},
    "files": {"errors", "structures"},
    "ledger": {"errors", "structures", "files"},
    "config": {"errors", "structures", "ledger"},
    "focus": GROUND,
    "detector": GROUND,
    "data": GROUND,
    "scenes": GROUND | {"data"},
    "metrics": GROUND,
    "parallel": GROUND,
    "weights": GROUND | {"detector", "parallel"},
    "training": GROUND | {"detector", "focus", "data", "parallel"},
    "inference": GROUND | {"weights", "data", "detector", "focus", "metrics", "parallel", "scenes", "foreign", "where"},
    "planning": GROUND | {"focus"},
    "foreign": GROUND | {"focus"},
    "where": GROUND | {"focus"},
    "dropin": GROUND | {"focus", "foreign", "where", "data"},
    "visualize": GROUND | {"focus"},
    "report": GROUND,
    "experiments": GROUND | {"focus", "data", "inference", "metrics", "visualize", "planning", "command"},
    "batch": GROUND | {"data", "detector", "focus", "inference", "parallel"},
    "command": None,  # the command line may know everything
    "__main__": {"command"},
    "__init__": None,  # the public names, from anywhere
}

DEVICE = {"jax", "jaxlib", "flax", "optax", "orbax"}
FORBIDDEN = {  # pattern of a module's name -> packages it must not import
    r"focus\..*": DEVICE | {"tensorflow_datasets", "grain"},
    r"focus\.(?!pyramid$).*": {"cv2"},
    r"detector\..*": {"scipy", "cv2", "matplotlib", "rich", "tyro"},
    r"(data|scenes|metrics|planning|report|visualize)\..*": DEVICE,
    r"foreign\..*": DEVICE | {"torch", "sahi", "supervision", "ultralytics", "torchvision", "transformers", "mmdet"},
    r"where\..*": DEVICE | {"cv2"},
    r"(?!foreign\.onnx_session$).*": {"onnxruntime", "onnx"},
    r"(errors|structures|boxes|files|ledger|machine\..*|config\..*)": DEVICE | {"scipy", "cv2"},
    r"(?!config\.load$|command\.|experiments\.).*": {"tyro"},
    r"(?!detector\.).*": {"flax"},
    r"(?!batch\.cluster$).*": {"ray"},
    r"(?!batch\.).*": {"pyarrow"},
    r"(?!report\.).*": {"jinja2"},
}


def modules():
    """Name of each module below the package ("focus.chips") and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts), ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(modules())


def run(tree):
    """Nodes of what is run: all but blocks `if TYPE_CHECKING:`, which only checkers read."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def imports(tree):
    """Full names of everything a module imports; `from a import b` gives a.b, which may be a module or a name."""
    for node in run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(tree):
    """Names below the package of the modules of ours that a module imports."""
    for name in imports(tree):
        if name.startswith("autofocus_jax."):
            name = name.removeprefix("autofocus_jax.")
            while name not in MODULES and f"{name}.__init__" not in MODULES and "." in name:
                name = name.rpartition(".")[0]
            yield name if name in MODULES else f"{name}.__init__"


def room(module):
    return module.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_rooms(module):
    assert room(module) in ROOMS, f"{module} is in no room; give it one in ROOMS and in docs/architecture.md"
    allowed = None if module.endswith("__main__") else ROOMS[room(module)]  # python -m ROOM is a command
    if allowed is not None:
        reached = {room(name) for name in ours(MODULES[module])} - {room(module)}
        assert reached <= allowed, f"{module} must not import {sorted(reached - allowed)}"


def test_few_modules_are_in_no_room():
    loose = {name for name in MODULES if "." not in name} - {"__init__", "__main__"}
    assert len(loose) <= LOOSE, f"{sorted(loose)}; put one into a room"


@pytest.mark.parametrize("module", MODULES)
def test_other_packages(module):
    used = {name.split(".")[0] for name in imports(MODULES[module])}
    for pattern, forbidden in FORBIDDEN.items():
        if re.fullmatch(pattern, module):
            assert not used & forbidden, f"{module} must not import {sorted(used & forbidden)}"


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_are_short(module):
    """A module has at most 300 lines, a function 60, which its docstring is no part of."""
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    assert path.read_text(encoding="utf-8").count("\n") <= 300
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = first.end_lineno - first.lineno + 1 if documented else 0
            lines = node.end_lineno - node.lineno + 1 - docstring
            assert lines <= 60, f"{module}.{node.name} has {lines} lines"


def test_no_circles():
    graph = {name: set(ours(tree)) - {name} for name, tree in MODULES.items() if name != "__init__"}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_the_reader_sees_imports():
    """Guards the tests above against a reader that finds nothing."""
    assert "focus.pyramid" in set(ours(MODULES["focus.walk"]))
    assert "structures" in set(ours(MODULES["boxes"]))
    tree = ast.parse("def f():\n    from autofocus_jax.detector import nms\n    import jax.numpy as jnp\n")
    assert set(ours(tree)) == {"detector.nms"} and "jax.numpy" in set(imports(tree))
    assert list(imports(ast.parse("if TYPE_CHECKING:\n    import jax\nelse:\n    import numpy"))) == ["numpy"]


def test_messages_of_the_library_name_no_options():
    """A command knows its options; the library is called from Python too. experiments/ and config.load have options."""
    for name, tree in MODULES.items():
        if room(name) in ("command", "experiments") or name == "config.load":
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docs = {node.body[0].value for node in ast.walk(tree)
                if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
                found = re.search(r"(?<![\w-])--[a-z][\w-]*", node.value)
                assert found is None, f"{name}, line {node.lineno} names the option {found[0]}"
