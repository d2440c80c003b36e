"""benchmarks/gpu.py: a dry run on this machine without what a plain checkout lacks, and ends at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GPU = ROOT / "benchmarks" / "gpu.py"

# Loaded by every Python process of a run (sitecustomize). Files of the checkout may import the packages of ALLOWED
# alone, whatever other packages have imported; nobody may import those of GONE.
HOOK = f"""
import builtins, pathlib, sys

ALLOWED = {{"jax", "flax", "numpy", "scipy", "cv2", "optax", "safetensors", "PIL"}}
GONE = {{"grain", "matplotlib", "orbax", "psutil", "pycocotools", "simplejpeg", "tensorboardX", "tensorflow_datasets",
        "torch", "tyro"}}
FOLDERS = [pathlib.Path({str(ROOT)!r}, name) for name in ("autofocus_jax", "benchmarks", "configs", "tests")]
OURS = {{"autofocus_jax", *(path.stem for folder in FOLDERS for path in folder.rglob("*.py"))}}

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            raise ImportError(f"{{name}} is refused")

def imported(name, globals=None, locals=None, fromlist=(), level=0):
    top, importer = name.partition(".")[0], pathlib.Path((globals or {{}}).get("__file__") or "/")
    if level == 0 and top not in ALLOWED | OURS | sys.stdlib_module_names and set(FOLDERS) & set(importer.parents):
        raise ImportError(f"{{name}} is refused to {{importer}}")
    return plain(name, globals, locals, fromlist, level)

plain, builtins.__import__ = builtins.__import__, imported
sys.meta_path.insert(0, Gone())
"""

# gpu.py with other sections, which end in every possible way. Spawned processes run these lines again.
SECTIONS = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import gpu

def quick(small, limit, folder, machine):
    yield {{"what": "device", "value": "none"}}

def fails(small, limit, folder, machine):
    yield {{"rows": len(machine)}}
    raise SystemExit("it was | too much")

def dies(small, limit, folder, machine):
    os._exit(3)
    yield

def hangs(small, limit, folder, machine):
    yield {{"process": os.getpid()}}
    time.sleep(600)

gpu.functions = lambda small, cache: {{f.__name__: f for f in (quick, fails, dies, hangs)}}
gpu.SECTIONS = tuple(gpu.Section(*words.split(), share=1 if "hangs" in words else 20) for words in SECTIONS)
if __name__ == "__main__":
    gpu.main()
"""


@pytest.fixture(scope="module")
def hooked(tmp_path_factory):
    """Environment of a process on a machine with few packages."""
    folder = tmp_path_factory.mktemp("hook")
    (folder / "sitecustomize.py").write_text(HOOK)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"  # compiles in half the time
    return os.environ | {"PYTHONPATH": str(folder), "XLA_FLAGS": flags}


@pytest.fixture(scope="module")
def dry_run(hooked, tmp_path_factory):
    """What a dry run wrote: JSON and Markdown."""
    folder = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, str(GPU), "--small", "--minutes", "10", "--output", "report"]
    done = subprocess.run(command, cwd=folder, env=hooked, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = folder / "report"
    return json.loads((report / "gpu.json").read_text()), (report / "gpu.md").read_text()


def test_every_section_runs_without_other_packages(dry_run):
    report, _ = dry_run
    assert [part["section"] for part in report["parts"]] == list("abbcdeefgb")
    assert [part["state"] for part in report["parts"]] == ["done"] * 10
    assert all(part["rows"] for part in report["parts"])


def test_the_rows_agree_with_each_other(dry_run):
    report, text = dry_run
    machine, buckets, parts, papers, training, *_, demo, _ = (part["rows"] for part in report["parts"])
    peak = {row["what"]: row["value"] for row in machine}["matrix product, bfloat16, TFLOP/s"]
    for row in buckets:
        assert row["of the product"] == pytest.approx(row["TFLOP/s"] / peak)
        batch = int(row["bucket"].split(" x ")[0])
        assert row["ms a batch"] == pytest.approx(1e3 * batch / row["chips/s"])
    whole = next(row for row in parts if row["what"] == "detector, deformable")
    for row in parts[:-1]:
        assert row["of the detector"] == pytest.approx(whole["images/s"] / row["images/s"])
    assert {"NMS, 32 to 8", "RPN head", "deformable layers, the difference"} <= {row["what"] for row in parts}
    for autofocus, pyramid, ratio in (papers[-3:], demo):
        assert (autofocus["what"], pyramid["what"], ratio["what"]) == ("autofocus", "pyramid", "ratio")
        assert ratio["times fewer pixels"] == pytest.approx((pyramid["side"] / autofocus["side"]) ** 2)
        assert ratio["times fewer pixels"] > 1 and autofocus["chips"] > 1
    assert all(0 <= row["AP50"] <= 100 for row in demo[:2]) and training[0]["chips/s"] > 0
    for part in report["parts"]:
        assert f"## ({part['section']}) {part['title']}\n" in text
    assert f"| device | {machine[0]['value']} |" in text and "`python benchmarks/gpu.py --small" in text


def test_the_hook_refuses(hooked):
    """A package that nobody may import, and one that Flax has imported when a file of the checkout asks for it."""
    code = f"""if True:
        import flax.linen, sys
        assert "rich" in sys.modules
        import rich
        for name, file in (("tyro", "/elsewhere.py"), ("rich", {str(GPU)!r})):
            try:
                exec("import " + name, {{"__file__": file}})
            except ImportError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], env=hooked, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == ["tyro is refused", f"rich is refused to {GPU}"], done.stderr


def start(folder, minutes, *sections):
    (folder / "run.py").write_text(SECTIONS.replace("for words in SECTIONS", f"for words in {list(sections)}"))
    command = [sys.executable, "run.py", "--minutes", str(minutes), "--output", "report"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_fails_dies_or_hangs_says_so_and_the_next_runs(tmp_path):
    run = start(tmp_path, 0.6, "a A quick", "b B fails", "c C dies", "d D quick", "e E hangs", "f F quick")
    out, errors = run.communicate(timeout=100)
    assert run.returncode == 0, errors
    report = json.loads((tmp_path / "report" / "gpu.json").read_text())
    assert [part["state"] for part in report["parts"]] == [
        "done", "failed: SystemExit: it was | too much", "failed: its process ended with code 3", "done",
        "out of time after 1 rows", "done",
    ]  # fmt: skip
    assert report["parts"][1]["rows"] == [{"rows": 1}]  # it had those of the first section
    assert out.endswith((tmp_path / "report" / "gpu.md").read_text() + "\n") and "(e) E: out of time" in out


def test_killed_at_once_it_has_kept_what_is_done(tmp_path):
    run = start(tmp_path, 5, "a A quick", "b B hangs", "c C quick")
    file, end = tmp_path / "report" / "gpu.json", time.monotonic() + 60
    while not (file.exists() and '"process"' in file.read_text()):
        assert time.monotonic() < end and run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    parts = json.loads(file.read_text())["parts"]
    assert [part["state"] for part in parts] == ["done", "running", "not begun"]
    assert "| device | none |" in (tmp_path / "report" / "gpu.md").read_text()
    process = Path(f"/proc/{parts[1]['rows'][0]['process']}/stat")
    while process.exists() and process.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end, "the process of the sections goes on"
        time.sleep(0.05)


@pytest.mark.parametrize(("minutes", "output", "message"), [
    ("0", "report", "--minutes must be more than 0, got 0"),
    ("nan", "report", "--minutes must be more than 0, got nan"),
    ("1", "file", "file cannot be made"),
])  # fmt: skip
def test_bad_input(tmp_path, minutes, output, message):
    (tmp_path / "file").touch()
    command = [sys.executable, str(GPU), "--minutes", minutes, "--output", tmp_path / output]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]
