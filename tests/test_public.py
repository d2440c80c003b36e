"""The public names: all there, and looked up only when they are used."""

import ast
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import autofocus_jax


@pytest.mark.parametrize("name", autofocus_jax.__all__)
def test_every_public_name_resolves(name):
    value = getattr(autofocus_jax, name)
    module = sys.modules[f"autofocus_jax.{autofocus_jax._MODULE_OF[name]}"]
    assert value is getattr(module, name)
    assert name in dir(autofocus_jax)


def test_names_are_unique_and_no_module_is_hidden():
    listed = [name for names in autofocus_jax._PUBLIC.values() for name in names]
    assert len(listed) == len(set(listed))
    assert not set(listed) & {module.name for module in pkgutil.iter_modules(autofocus_jax.__path__)}


def test_few_names_are_at_the_top_and_checkers_see_the_same():
    assert len(autofocus_jax.__all__) <= 45
    stub = ast.parse(Path(autofocus_jax.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    seen = {node.names[0].asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom)}
    assert seen == {name: f"autofocus_jax.{module}" for name, module in autofocus_jax._MODULE_OF.items()}


def test_every_error_is_in_errors():
    elsewhere = [path for path in Path(autofocus_jax.__file__).parent.rglob("*.py") if path.name != "errors.py"]
    nodes = [node for path in elsewhere for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    bases = [(node.name, ast.unparse(base)) for node in nodes if isinstance(node, ast.ClassDef) for base in node.bases]
    assert len(bases) > 50 and [pair for pair in bases if pair[1].endswith(("Error", "Exception"))] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'cascades'"):
        autofocus_jax.cascades  # noqa: B018
    assert not hasattr(autofocus_jax, "numpy")


@pytest.mark.parametrize(
    "use",
    [
        "import autofocus_jax",
        "from autofocus_jax import Config, CocoSource, ScenesSource, load_config",
        "from autofocus_jax import Plan, cascade, focus_chips, oracle_detect, panel",
    ],
)
def test_the_host_side_does_not_import_jax(use):
    code = f"import sys; {use}; print(sorted({{'jax', 'jaxlib', 'flax'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_and_types():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert autofocus_jax.__version__ == project["project"]["version"]
    assert Path(autofocus_jax.__file__).with_name("py.typed").is_file()
