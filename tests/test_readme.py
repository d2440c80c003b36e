"""README.md keeps its word: its commands parse and name files that exist, its Python runs."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from autofocus_jax import Config, load_config
from autofocus_jax.command.options import evaluate, train
from autofocus_jax.config.load import command_line

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHIPPED = ROOT / "autofocus_jax" / "weights" / "shipped" / "demo.safetensors"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


COMMANDS = [part.strip() for block in blocks("bash") for line in block.splitlines() for part in line.split("&&")]
PROGRAMS = [command for command in COMMANDS if re.search(r"python (train|evaluate)\.py", command)]


def test_the_two_first_commands():
    first, second, *_ = blocks("bash")
    for block in (first, second):
        install = block.replace(" --no-compile", "")
        assert install.startswith("python -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ")
        assert block.count("\n") == 1
    assert first.endswith("evaluate.py --config configs/demo.py\n")
    tests = [line for line in TEXT.splitlines() if re.match(r"\s*python3? -m venv .*pytest", line)]
    assert tests == [second.strip()], "a checker takes the test command from README.md and wants exactly one"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_files_that_exist(command):
    named = [word for word in shlex.split(command) if re.search(r"\.(py|txt)$", word)]
    assert [name for name in named if not (ROOT / name).is_file() and name != "mine.py"] == []  # the page writes it


@pytest.mark.parametrize("command", PROGRAMS)
def test_commands_parse(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, program, *words = shlex.split(command)
    kind = {"train.py": train.Arguments, "evaluate.py": evaluate.Arguments}[program]
    arguments, config = command_line(kind, words, program, "")
    assert isinstance(arguments, kind) and isinstance(config, Config)


def test_links_and_extras_exist():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose)
        missing = [target for target in targets if ":" not in target and not (page.parent / target).exists()]
        assert missing == [], f"{page.name} points to nothing"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"\.\[(\w+)\]", TEXT):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"there is no extra {extra}"


def test_links_lead_to_headings():
    """`page.md#heading`, by GitHub's rule for the names of headings."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    prose = {page: re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.M) for page in pages}
    headings = {
        page: {re.sub(r"[^\w\- ]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}
        for page, text in prose.items()
    }
    links = [(page, *link) for page, text in prose.items() for link in re.findall(r"\]\(([\w./]*)#([^)]+)\)", text)]
    assert len(links) > 20
    wrong = [f"{page.name}: {target}#{name}" for page, target, name in links
             if name not in headings[(page.parent / target).resolve() if target else page]]  # fmt: skip
    assert wrong == []


def test_the_config_for_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = [block for block in blocks("python") if "def get_config" in block]
    (tmp_path / "mine.py").write_text(block)
    config = load_config(tmp_path / "mine.py")
    assert config.name == "mine" and config.detector.num_classes == 3 and config.shipped is None


@pytest.mark.skipif(not SHIPPED.is_file(), reason=f"no weights are shipped: {SHIPPED.name} is absent")
def test_the_python_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AUTOFOCUS_CACHE", str(tmp_path))
    names = {}
    two_lines, example, bound = [block for block in blocks("python") if "def get_config" not in block]
    exec(compile(two_lines, "README.md", "exec"), names)
    assert len(names["result"]) > 0 and set(names["result"].names) <= set(names["model"].categories)
    assert re.search(r"\d% of the pixels$", capsys.readouterr().out)
    exec(compile(example, "README.md", "exec"), names)
    height, width = names["image"].shape[:2]
    lines = capsys.readouterr().out.splitlines()
    assert lines, "the example prints no box"
    for line in lines:
        category, score, box = re.fullmatch(r"(\w+) (\d\.\d\d) (\[.*\])", line).groups()
        assert category in names["dataset"].categories and 0.5 <= float(score) <= 1
        x1, y1, x2, y2 = ast.literal_eval(re.sub(r"(?<=\d)\s+", ", ", box.strip("[] ")))
        assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height

    exec(compile(bound, "README.md", "exec"), names)
    cost, bound, pyramid = (names[name].pixels.sum() for name in ("cost", "bound", "pyramid"))
    assert 0 < bound < pyramid and 0 < cost <= pyramid
    assert capsys.readouterr().out.startswith(f"{cost} pixels; at best {bound}; the pyramid {pyramid}")
