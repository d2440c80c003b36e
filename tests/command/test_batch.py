"""`autofocus batch`: options and mistakes without Ray; whole runs on a real cluster, with kills and a store (slow)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
import pyarrow.dataset

from autofocus_jax.command.main import main

ROOT = Path(__file__).parents[2]


def call(capsys, *words):
    code = main(["batch", *(str(word) for word in words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("words, message", [
    ([], "INPUT is missing"),
    (["in"], "OUTPUT is missing"),
    (["in", "out"], "--weights is missing"),
    (["in", "out", "--weights", "w", "--workers", "3:2"], "--workers 3:2; want a number, or bounds"),
    (["in", "out", "--weights", "w", "--workers", "many"], "--workers many; want a number, or bounds"),
    (["in", "out", "--weights", "w", "--workers", "0"], "--workers 0; want a number, or bounds"),
    (["in", "out", "--weights", "w", "--piece", "0"], "--piece 0; want at least 1"),
    (["in", "out", "--weights", "w", "--per-gpu", "0"], "--per-gpu 0; want at least 1"),
    (["in", "out", "--weights", "w", "--cores", "0"], "--cores 0; want at least 1"),
    (["in", "out", "--weights", "w", "--score", "2"], "--score 2; want a probability"),
    (["in", "out", "--weights", "w", "--threshold", "2"], "--threshold 2; want probabilities"),
    (["in", "out", "--weights", "w", "--scales", "5"], "--scales 5; want shorter x longer"),
    (["in", "out", "--weights", "w.safetensors"], "w.safetensors"),
])  # fmt: skip
def test_mistakes_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *words)
    assert code == 1 and message in err and err.count("\n") == 1


def test_no_input(capsys, tmp_path, tiny_weights):
    code, _, err = call(capsys, tmp_path / "no", tmp_path / "out", "--weights", tiny_weights)
    assert code == 1 and "does not exist" in err and not (tmp_path / "out").exists()


def test_the_output_must_not_lie_in_the_input(capsys, tmp_path, tiny_weights, pictures):
    code, _, err = call(capsys, pictures, pictures / "out", "--weights", tiny_weights)
    assert code == 1 and "lies in INPUT" in err and not (pictures / "out").exists()


def test_another_output_is_not_touched(capsys, tmp_path, tiny_weights, pictures):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, err = call(capsys, pictures, tmp_path / "out", "--weights", tiny_weights)
    assert code == 1 and "holds other files" in err and os.listdir(tmp_path / "out") == ["mine.txt"]


def test_without_ray(capsys, tmp_path, tiny_weights, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = call(capsys, pictures, tmp_path / "out", "--weights", tiny_weights)
    assert code == 1 and "pip install 'autofocus_jax[ray]'" in err


def test_parts_that_a_power_cut_left_are_done_again(capsys, tmp_path, tiny_weights, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    words = (pictures, tmp_path / "out", "--weights", tiny_weights)
    call(capsys, *words)
    (tmp_path / "out" / "part-00000000.parquet").write_bytes(b"PAR1 cut off")
    code, out, err = call(capsys, *words)
    assert code == 1 and "1 pieces are there, but cut off or damaged; they are done again" in out
    assert "are there already" not in out and "holds 0 images" in out and "pip install" in err


# What follows runs the command as its users do, in processes of their own.


def start(given, out, weights, *words):
    pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    command = [sys.executable, "-m", "autofocus_jax", "batch", given, out, "--weights", weights, "--workers", 2, *words]
    # What one worker has compiled all others read, those of other tests too.
    cache = {"AUTOFOCUS_CACHE": str(Path(weights).parent / "cache"), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    environment = {**os.environ, **cache, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([str(word) for word in command], env=environment, cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=1500)
    return process.returncode, out, err


def table(out):
    return pyarrow.dataset.dataset(str(out), format="parquet").to_table()


def parts(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("part-*")}


def workers_of(pid):
    found = []
    for one in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if one.cmdline() and one.cmdline()[0].startswith("ray::_Actor"):
                found.append(one)
    return found


def wait_for_parts(process, out, count):
    while process.poll() is None and len(parts(out)) < count:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """400 pictures, every hundredth cut off."""
    folder, random = tmp_path_factory.mktemp("many"), np.random.default_rng(4)
    for number in range(400):
        image = random.integers(0, 255, (50 + number % 30, 60 + number % 20, 3), np.uint8)
        content = cv2.imencode(".jpg", image)[1].tobytes()
        (folder / f"{number:04d}.jpg").write_bytes(content[: 300 if number % 100 == 50 else None])
    return folder


@pytest.fixture(scope="module")
def whole(many, tiny_weights, tmp_path_factory):
    """The parts of a run that nothing disturbed, with what it printed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    code, printed, _ = finish(start(many, out, tiny_weights, "--piece", 10))
    return code, printed, parts(out), out


@pytest.mark.slow
def test_errors_are_rows_and_counted(whole):
    code, printed, found, out = whole
    rows = table(out).to_pylist()
    bad = [row for row in rows if row["error"] is not None]
    assert code == 3 and "400 images; 4 of them failed" in printed and len(found) == 40
    assert [row["id"] for row in bad] == [f"{number:04d}.jpg" for number in (50, 150, 250, 350)]
    assert len({row["id"] for row in rows}) == len(rows) == 400 and all("cut off" in row["error"] for row in bad)


@pytest.mark.slow
def test_three_workers_killed(many, whole, tiny_weights, tmp_path):
    process = start(many, tmp_path / "out", tiny_weights, "--piece", 10)
    killed = set()
    for count in (2, 10, 20):
        wait_for_parts(process, tmp_path / "out", count)
        victim = next(one for one in workers_of(process.pid) if one.pid not in killed)
        killed.add(victim.pid)
        victim.kill()
    code, _, _ = finish(process)
    assert code == 3 and len(killed) == 3 and parts(tmp_path / "out") == whole[2]


@pytest.mark.slow
def test_the_driver_killed_and_started_again(many, whole, tiny_weights, tmp_path):
    out = tmp_path / "out"
    process = start(many, out, tiny_weights, "--piece", 10)
    wait_for_parts(process, out, 8)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=300)  # Ray's agents look for a dead cluster for about a minute
    assert not alive
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    code, printed, _ = finish(start(many, out, tiny_weights, "--piece", 10))
    assert code == 3 and f"{len(before)} of 40 pieces are there already" in printed
    assert "400 images; 4 of them failed" in printed and parts(out) == whole[2]
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in before.items())
    code, printed, _ = finish(start(many, out, tiny_weights, "--piece", 10))
    assert code == 3 and "40 of 40 pieces" in printed


@pytest.mark.slow
@pytest.mark.parametrize("number, expected", [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_an_interrupt_keeps_what_is_finished(many, whole, tiny_weights, tmp_path, number, expected):
    process = start(many, tmp_path / "out", tiny_weights, "--piece", 10)
    wait_for_parts(process, tmp_path / "out", 4)
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == expected and "the same command goes on" in err and "Traceback" not in err
    assert parts(tmp_path / "out").items() <= whole[2].items()


@pytest.mark.slow
def test_workers_of_other_numbers_find_the_same(many, whole, tiny_weights, tmp_path):
    assert finish(start(many, tmp_path / "out", tiny_weights, "--piece", 10, "--workers", "1"))[0] == 3
    assert parts(tmp_path / "out") == whole[2]


@pytest.mark.slow
def test_an_s3_store(many, whole, tiny_weights, monkeypatch):
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    from pyarrow import fs

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    running.start()
    try:
        endpoint = "http://{}:{}".format(*running.get_host_and_port())
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        store = fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True)
        store.create_dir("bucket")
        fs.copy_files(str(many), "bucket/in", destination_filesystem=store)
        code, printed, _ = finish(start("s3://bucket/in", "s3://bucket/out", tiny_weights, "--piece", 10))
        assert code == 3 and "400 images; 4 of them failed" in printed
        found = {}
        for info in store.get_file_info(fs.FileSelector("bucket/out")):
            if info.base_name.startswith("part-"):
                with store.open_input_stream(info.path) as file:
                    found[info.base_name] = file.read()
        assert found == whole[2]
    finally:
        running.stop()
