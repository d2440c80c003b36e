"""Who gets what of a cluster; and a real one of two workers on this machine, started and stopped by the command."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")

from autofocus_jax.batch import cluster
from autofocus_jax.batch.cluster import ClusterError, Share
from autofocus_jax.batch.shares import one_at_a_time

ROOT = Path(__file__).parents[2]


def workers_of(process):
    """Ray's worker processes that hold a detector, below a process."""
    found = []
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if one.cmdline() and one.cmdline()[0].startswith("ray::MapWorker"):
                found.append(one)
    return found


def parts(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("part-*")}


def test_two_workers_one_of_them_killed(contents, do_all, tiny_weights, tmp_path):
    """The same files, byte for byte, as one process writes, none of them written twice; and nothing of Ray is left.

    Four tasks of 15 pieces, as a job of 150,000 pieces has 10,000.
    """
    pictures = tmp_path / "in"
    pictures.mkdir()
    for number in range(120):
        (pictures / f"{number:03d}.png").write_bytes(contents[number % 10])
    do_all(pictures, tmp_path / "alone", 2)
    out, log = tmp_path / "out", tmp_path / "log"
    code = ("import sys; from autofocus_jax.batch import cluster; from autofocus_jax.command.main import main; "
            "cluster._BLOCKS = 4; sys.exit(main(sys.argv[1:]))")  # fmt: skip
    command = [sys.executable, "-c", code, "batch", pictures, out, "--weights", tiny_weights, "--piece", 2,
               "--workers", 2]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with log.open("w") as file:
        process = psutil.Popen([str(word) for word in command], env=environment, cwd=ROOT, stdout=file, stderr=file)
        killed, family, before = False, {}, {}
        while process.poll() is None:
            family |= {one.pid: one for one in process.children(recursive=True)}
            if not killed and len(parts(out)) >= 8:
                for victim in workers_of(process)[:1]:
                    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
                    victim.kill()
                    killed = True
            time.sleep(0.02)
    printed = log.read_text()
    assert process.returncode == 3 and killed, printed
    assert "120 images; 12 of them could not be read" in printed and "Traceback" not in printed
    assert parts(out) == parts(tmp_path / "alone")
    again = [path.name for path, stamp in before.items() if path.stat().st_mtime_ns != stamp]
    assert len(again) <= 1  # one may have been written, and not told of, when its worker was killed
    _, alive = psutil.wait_procs(list(family.values()), timeout=20)
    assert not alive


def test_share_looks_at_the_machines_that_are_there(monkeypatch):
    nodes = [(True, {"CPU": 8.0, "GPU": 1.0, "memory": 9e9}), (True, {"CPU": 4.0}), (False, {"CPU": 64.0, "GPU": 8.0})]
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": alive, "Resources": known} for alive, known in nodes])
    assert cluster.share(None, None, 1) == Share(1, 1, 8, 1)


_KILLED = """
import ray
from autofocus_jax.batch import cluster
with cluster.cluster(None, cores=1):
    watch = cluster._attempts()
    assert ray.get(watch.begin.remote(7)).attempt == 1
    calls = []
    for number in range(3000):  # more than are answered before it is killed
        calls.append(watch.begin.remote(7))
        if number == 2000:
            ray.kill(watch, no_restart=False)
    assert len(ray.get(calls, timeout=120)) == 3000
print("answered")
"""


def test_calls_are_answered_though_the_memory_of_deaths_died():
    """In a process of its own: Ray forks, which JAX in this one does not like."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", _KILLED], env=environment, capture_output=True, text=True, timeout=300)
    assert "answered" in done.stdout.split(), done.stderr


def test_no_cluster_there():
    with pytest.raises(ClusterError, match="cannot be joined"), cluster.cluster("127.0.0.1:1"):
        pass


def test_the_folder_of_a_killed_process_goes_with_the_next_start(tmp_path):
    code = "import os, sys; from autofocus_jax.batch import cluster\nwith cluster._own_folder(sys.argv[1]): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, tmp_path], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "autofocus-ray-of-another-kind").mkdir()
    with cluster._own_folder(str(tmp_path)) as first, cluster._own_folder(str(tmp_path)) as second:
        assert not left.exists() and Path(first).is_dir() and Path(second).is_dir() and first != second
    assert [path.name for path in tmp_path.iterdir()] == ["autofocus-ray-of-another-kind"]


def test_processes_compile_in_turns_until_one_has_filled_the_folder(tmp_path):
    busy, most, order = [0], [0], threading.Barrier(3)

    def warm_up():
        with one_at_a_time(str(tmp_path), "a"):
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            time.sleep(0.05)
            if filled:
                order.wait(20)  # all three are here at the same time
            busy[0] -= 1

    for filled in (False, True):
        workers = [threading.Thread(target=warm_up) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if not filled:
            assert (tmp_path / "warm_up_a.done").exists() and busy == [0]
    assert most == [3]
    with one_at_a_time(None, "a"):
        pass


def test_a_warm_up_that_fails_fills_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), one_at_a_time(str(tmp_path), "a"):
        raise ZeroDivisionError
    assert not list(tmp_path.glob("*.done"))
