"""SIGKILL at five points each of train, evaluate, batch and learn: python -m tests.kill [PROGRAM ...]

Each program runs once undisturbed. Then it is killed five times, spread over its progress, started again after each
kill, and left to finish. The results of both must be equal: weights to the bit, detections and metrics, rows of the
Parquet files, a focus network to the bit with its threshold and forecast. Takes minutes; prints a line for each kill,
and exits with 1 where a result differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from autofocus_jax.inference import engine
from autofocus_jax.ledger import weights_digest
from tests.square_finder import write_square_finder

KILLS, STEPS, PICTURES = 5, 60, 120
LEARNED, LOGGED = 20, 2  # steps of learn, and from one line of its log to the next
_WAIT = 1800  # s until progress, on a machine that does much else

CONFIG = """
import math
from autofocus_jax import CocoSource
from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig, StackingConfig, TrainingConfig
from autofocus_jax.structures import Bucket, ChipRule, FocusRange, Scale, ValidRange

def get_config():
    return Config(
        name="tiny", data=CocoSource("DATA"),
        scales=(
            Scale(64, 64, ValidRange(20, math.inf), ChipRule(0.2, 3, 32)), Scale(128, 128, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(2.5, 40, 50), buckets=(Bucket(64, 64, 4), Bucket(128, 128, 1)),
        detector=DetectorConfig(
            num_classes=2, backbone=BackboneConfig(units=(1, 1, 1, 1), channels=(4, 8, 8, 8, 8)),
            anchors=AnchorConfig(ratios=(1.0,), sizes=(16, 32)), rpn_channels=8, proposals_before_nms=32, proposals=8,
            roi_channels=4, head_channels=8, focus_channels=8,
        ),
        stacking=StackingConfig(border_tolerance=3, score_threshold=0.0),
        training=TrainingConfig(steps=STEPS, batch=2, chip=64, ranges=(ValidRange(16, math.inf), ValidRange(0, 64)),
                                max_boxes=20, learning_rate=0.01, warmup_learning_rate=0.001, warmup_steps=5,
                                drop_at=None, rpn_batch=16, roi_batch=8, log_every=1, checkpoint_every=3),
        window=4,
    )
"""


def make_data(folder: Path) -> None:
    """A COCO folder of random pictures with two boxes each, and the config."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        table = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
        (folder / split).mkdir()
        for number in range(1, PICTURES + 1):
            cv2.imwrite(str(folder / split / f"{number}.png"), random.integers(0, 255, (48, 64, 3), np.uint8))
            table["images"].append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
            for label in (1, 2):
                box = [int(random.integers(30)), int(random.integers(20)), *map(int, random.integers(12, 28, 2))]
                table["annotations"].append({"id": 2 * number + label, "image_id": number, "category_id": label,
                                             "bbox": box, "iscrowd": 0})  # fmt: skip
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(table))
    (folder / "config.py").write_text(CONFIG.replace("DATA", str(folder)).replace("STEPS", str(STEPS)))


def make_learning(folder: Path) -> None:
    """Photographs of a small square each, a detector that misses it at the coarse scale, and weights to start from."""
    import jax

    from autofocus_jax.config import BackboneConfig
    from autofocus_jax.config.load import to_dict
    from autofocus_jax.detector.focus_network import FocusNetworkConfig, init
    from autofocus_jax.weights import safetensors

    random = np.random.default_rng(1)
    (folder / "photos").mkdir()
    for number in range(PICTURES):
        image = np.zeros((192, 384, 3), np.uint8)
        x, y = 8 * int(random.integers(48)), 8 * int(random.integers(24))
        image[y : y + 8, x : x + 8, 2] = 255
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), image)
    write_square_finder(folder / "squares.onnx")
    backbone = BackboneConfig(units=(1, 1, 1, 1), channels=(4, 8, 8, 8, 8))
    settings = FocusNetworkConfig(backbone=backbone, focus_channels=8)
    safetensors.save(folder / "initial.safetensors", init(settings, jax.random.key(0)),
                     {"detector": to_dict(settings) | {"kind": "FocusNetworkConfig"}}, {})  # fmt: skip


class Program(NamedTuple):
    """A program to kill."""

    words: Callable[[Path], list]  # by the output folder
    again: list  # what its words have besides after a kill
    progress: Callable[[Path], float]  # by the output folder
    whole: float  # progress at the end
    result: Callable[[Path], Any]  # what must be equal, by the output folder


def start(words: list, log: Path) -> subprocess.Popen:
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-m", "autofocus_jax", *map(str, words)], stdout=out, stderr=out,
                                start_new_session=True)  # fmt: skip


def finish(words: list, log: Path) -> None:
    code = start(words, log).wait()
    if code:
        raise SystemExit(f"{words[0]} ended with {code}:\n{log.read_text()[-2000:]}")


def killed(words: list, again: list, progress: Callable[[], float], whole: float, log: Path) -> None:
    """Kill a program KILLS times, each time a sixth of `whole` further on; `again` are the words after the first."""
    for number in range(1, KILLS + 1):
        process, begun = start(words if number == 1 else again, log), time.monotonic()
        while progress() < number * whole / (KILLS + 1):
            if process.poll() is not None or time.monotonic() - begun > _WAIT:
                raise SystemExit(f"{words[0]} is not to be killed a {number}th time, with {progress():g} of {whole:g}: "
                                 f"it ended with {process.poll()}\n{log.read_text()[-2000:]}")  # fmt: skip
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"{words[0]}: killed at {progress():g} of {whole:g}", flush=True)
    finish(again, log)


def count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


def lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.is_file() else 0


def weights(workdir: Path) -> dict:
    from safetensors.numpy import load_file

    return {name: array.tobytes() for name, array in load_file(workdir / "model.safetensors").items()}


def evaluation(workdir: Path) -> list:
    scores = json.loads((workdir / "metrics.json").read_text())
    kept = {row: {key: value for key, value in of.items() if key.startswith(("AP", "pixels", "chips_per"))}
            for row, of in scores.items()}  # fmt: skip
    return [kept, json.loads((workdir / "detections_autofocus.json").read_text())]


def rows(output: Path) -> list:
    import pyarrow.parquet as pq

    found = [row for part in sorted(output.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    return sorted(({key: value for key, value in row.items() if "seconds" not in key} for row in found), key=str)


def learned(output: Path) -> list:
    from autofocus_jax.weights import safetensors

    arrays, facts = safetensors.load(output / "focus.safetensors")
    return [facts, weights_digest(arrays)]


def how_learned(output: Path) -> float:
    """Of 6: 2 for the detections, 2 for the log of the training, 1 for its last checkpoint, 1 for the rest."""
    found = count(output, "work/detections/*.npz") / PICTURES
    steps = LOGGED * sum(map(lines, output.glob("work/trainings/*/log.jsonl"))) / LEARNED
    return 2 * found + 2 * steps + count(output, f"work/trainings/*/checkpoints/{LEARNED}")


def programs(base: Path) -> dict[str, Program]:
    """The programs by name; `evaluate` and `batch` use the weights of the undisturbed `train`."""
    config, model = base / "config.py", base / "train through" / "model.safetensors"
    return {
        "train": Program(lambda out: ["train", "--config", config, "--validation-images", 0, "--workdir", out],
                         [], lambda out: lines(out / "log.jsonl"), STEPS, weights),
        "evaluate": Program(lambda out: ["evaluate", "--config", config, "--weights", model, "--panels", 0,
                                         "--output", out],
                            ["--resume"], lambda out: count(out, "pieces/*/*.npz"),
                            4 * -(-PICTURES // engine.PIECE), evaluation),
        "batch": Program(lambda out: ["batch", base / "val", out, "--weights", model, "--workers", 1, "--cores", 1,
                                      "--piece", 4, "--score", 0],
                         [], lambda out: count(out, "*.parquet"), PICTURES // 4, rows),
        "learn": Program(lambda out: ["learn", base / "photos", "--detector", base / "squares.onnx", "--side", 96,
                                      "--padding", 0, 0, 0, "--threads", 1, "--initial", base / "initial.safetensors",
                                      "--share", 1, "--steps", LEARNED, "--work", out / "work",
                                      "--output", out / "focus.safetensors"],
                         [], how_learned, 6, learned),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__.split("\n", 1)[0])
    known = ("train", "evaluate", "batch", "learn")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(known)}; all by default")
    wanted, wrong = parser.parse_args().programs or known, 0
    if not set(wanted) <= set(known):
        parser.error(f"{' '.join(wanted)}; want programs of {', '.join(known)}")
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        log, every = base / "log.txt", programs(base)
        if set(wanted) - {"learn"}:
            make_data(base)
        if "learn" in wanted:
            make_learning(base)
        if {"evaluate", "batch"} & set(wanted) and "train" not in wanted:
            finish(every["train"].words(base / "train through"), log)
        for name in sorted(wanted, key=known.index):
            one, through, stopped = every[name], base / f"{name} through", base / f"{name} killed"
            finish(one.words(through), log)
            again = one.words(stopped) + one.again
            killed(one.words(stopped), again, lambda: one.progress(stopped), one.whole, log)  # noqa: B023
            same = one.result(through) == one.result(stopped)
            wrong += not same
            print(f"{name}: {'equal' if same else 'DIFFERENT'} after {KILLS} kills", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
