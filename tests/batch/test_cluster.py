"""Who gets what of a cluster; and a real one of two workers on this machine, started and stopped by the command."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")

from autofocus_jax.batch import cluster
from autofocus_jax.batch.cluster import ClusterError, Share

ROOT = Path(__file__).parents[2]


def workers_of(process):
    """Ray's worker processes that hold a detector, below a process."""
    found = []
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if one.cmdline() and one.cmdline()[0].startswith("ray::_Actor"):
                found.append(one)
    return found


def parts(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("part-*")}


def test_two_workers_one_of_them_killed(contents, do_all, tiny_weights, tmp_path):
    """The same files, byte for byte, as one process writes, none of them written twice; and nothing of Ray is left."""
    pictures = tmp_path / "in"
    pictures.mkdir()
    for number in range(120):
        (pictures / f"{number:03d}.png").write_bytes(contents[number % 10])
    do_all(pictures, tmp_path / "alone", 2)
    out, log = tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "-m", "autofocus_jax", "batch", pictures, out, "--weights", tiny_weights, "--piece", 2,
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
    assert "120 images; 12 of them failed" in printed and "Traceback" not in printed
    assert parts(out) == parts(tmp_path / "alone")
    again = [path.name for path, stamp in before.items() if path.stat().st_mtime_ns != stamp]
    assert len(again) <= 1  # one may have been written, and not told of, when its worker was killed
    _, alive = psutil.wait_procs(list(family.values()), timeout=20)
    assert not alive


def nodes(monkeypatch, *machines):
    known = [{"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}} for cpus, gpus in machines]
    gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    monkeypatch.setattr("ray.nodes", lambda: [*known, gone])


@pytest.mark.parametrize("machines, workers, cores, per_gpu, expected", [
    ([(2, 0)], None, None, 1, Share(1, 1, 2, 0)),
    ([(16, 0)], None, None, 1, Share(4, 4, 4, 0)),
    ([(16, 0)], (1, 8), None, 1, Share(1, 8, 2, 0)),
    ([(32, 4)], None, None, 1, Share(4, 4, 8, 1)),
    ([(16, 2)] * 2, None, None, 2, Share(8, 8, 4, 0.5)),
    ([(2, 0)], (1, 8), None, 1, Share(1, 8, 1, 0)),
    ([(4, 0)] * 8, (1, 2), None, 1, Share(1, 2, 4, 0)),  # 16 each would be even, and fit no machine
    ([(64, 0), (4, 4)], None, None, 1, Share(4, 4, 1, 1)),  # the machine with GPUs is the small one
    ([(32, 4)], (1, 8), 3, 1, Share(1, 8, 3, 1)),
])  # fmt: skip
def test_share(monkeypatch, machines, workers, cores, per_gpu, expected):
    nodes(monkeypatch, *machines)
    assert cluster.share(workers, cores, per_gpu) == expected


@pytest.mark.parametrize("machines, workers, cores, message", [
    ([(2, 0)], (4, 4), None, "4 workers of 1 cores, but 2 fit on the cluster"),
    ([(4, 0)] * 4, None, 8, "2 workers of 8 cores, but 0 fit on the cluster"),
    ([(64, 0), (4, 1)], None, 8, "1 workers of 8 cores and a GPU, but 0 fit"),
    ([], None, None, "1 workers of 1 cores, but 0 fit"),
])  # fmt: skip
def test_what_would_wait_for_ever_is_refused(monkeypatch, machines, workers, cores, message):
    nodes(monkeypatch, *machines)
    with pytest.raises(ClusterError, match=message):
        cluster.share(workers, cores, 1)


def test_cores_where_the_system_names_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cluster._cores_here() == os.cpu_count()


@pytest.mark.parametrize("given, expected", [(None, "cpu"), ("tpu,cpu", "tpu,cpu")])
def test_a_worker_without_gpu_takes_none(given, expected):
    """Though JAX has been imported before, with the job."""
    code = ("import jax; from autofocus_jax.batch.cluster import Share, limit\n"
            "limit(Share(1, 1, 3, 0)); import os; print(jax.config.jax_platforms, os.environ['NPROC'])")  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"JAX_PLATFORMS": given} if given else {})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "3"]


_DEADLY = """
import os, sys
from autofocus_jax.batch import cluster, job
from autofocus_jax.command.main import main

done = cluster.do_piece
def do_piece(worker, job, piece, *rest):
    if piece.number == 3:
        os._exit(9)  # as the system ends a process that takes too much memory
    if piece.number == 1:
        raise OSError("a disk that fails")
    return done(worker, job, piece, *rest)

cluster.do_piece = do_piece
import ray.cloudpickle
sys.modules["__main__"].__dict__["do_piece"] = do_piece
ray.cloudpickle.register_pickle_by_value(cluster)
sys.exit(main(sys.argv[1:]))
"""


def test_pieces_that_fail_twice_are_named_and_nothing_else_is_lost(pictures, do_all, tiny_weights, tmp_path):
    """One kills its worker every time, one raises; the same command without them goes on."""
    out = tmp_path / "out"
    do_all(pictures, tmp_path / "alone", 2)
    command = [sys.executable, "-c", _DEADLY, "batch", pictures, out, "--weights", tiny_weights, "--piece", 2,
               "--workers", 1]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(word) for word in command], env=environment, cwd=ROOT, capture_output=True, text=True,
                          timeout=500)  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "piece 3 failed: two workers died of it (9.png … below/0.png)" in done.stdout, done.stdout + done.stderr
    assert "piece 1 failed: OSError: a disk that fails" in done.stdout
    assert "the same command goes on" in done.stderr and "Traceback" not in done.stdout + done.stderr
    expected = parts(tmp_path / "alone")
    assert parts(out) == {name: expected[name] for name in expected if name[12] not in "13"}


def test_no_cluster_there():
    with pytest.raises(ClusterError, match="cannot be joined"), cluster.cluster("127.0.0.1:1"):
        pass
