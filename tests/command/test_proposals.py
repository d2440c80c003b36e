"""The proposals stage: it learns where objects are, is not done twice, goes on, and refuses what does not fit."""

import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest

from autofocus_jax.boxes import iou
from autofocus_jax.command import proposals as command
from autofocus_jax.command.console import Screen
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.ledger import LedgerError, locked
from autofocus_jax.structures import AutoFocusError, ValidRange
from autofocus_jax.training import proposals
from autofocus_jax.training.proposals import ProposalsError

IMAGES, STEPS = 12, 200


@pytest.fixture(scope="module", autouse=True)
def quickly(quick_compilation):
    """Compiling takes longer than running here."""


@pytest.fixture(scope="module")
def squares(memory_dataset, truth):
    """Dim noise with one or two bright squares of 18 to 34 px."""
    random, images, truths = np.random.default_rng(0), [], []
    for number in range(IMAGES):
        image = random.integers(0, 60, (60, 90, 3), np.uint8)
        boxes = []
        for x in (0, 45)[: 1 + number % 2]:
            side = int(random.integers(18, 35))
            left, upper = x + int(random.integers(0, 45 - side + 1)), int(random.integers(0, 60 - side + 1))
            boxes.append([left, upper, left + side, upper + side])
            image[upper : upper + side, left : left + side] = 230
        images.append(image)
        truths.append(truth(boxes, [0] * len(boxes)))
    return memory_dataset(images, truths)


@pytest.fixture(scope="module")
def config(tiny_config):
    training = dataclasses.replace(
        tiny_config.training, steps=7, proposals_steps=STEPS, batch=4, learning_rate=0.05, proposals_kept=8,
        log_every=50, checkpoint_every=50, negative_chips=2, negative_proposals=(1, 1), ema=0.9,
        ranges=(ValidRange(24, 1000), ValidRange(0, 30)),
    )  # fmt: skip
    return dataclasses.replace(tiny_config, data=CocoSource("nowhere"), training=training)


def quiet():
    return Screen(quiet=True)


def recall(dataset, of_image):
    """Share of the objects with a proposal at an IoU of 0.5 and more."""
    best = [iou(dataset.truths[index].boxes, of_image(index)).max(axis=1, initial=0) for index in range(len(dataset))]
    return (np.concatenate(best) >= 0.5).mean()


@pytest.fixture(scope="module")
def done(config, squares, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    assert command.run_stage(config, squares, workdir, quiet()) == workdir / "proposals.npz"
    return workdir


def test_trained_proposals_find_the_objects(config, squares, done, tiny_variables, tmp_path):
    found = proposals.read(done / "proposals.npz", squares)
    untrained = command.propose_all(config, squares, tiny_variables, tmp_path, quiet())
    before, after = recall(squares, untrained.__getitem__), recall(squares, found)
    assert after >= 0.8 and after >= before + 0.2, (before, after)
    for index in range(IMAGES):
        boxes = found(index)
        assert 0 < len(boxes) <= 8
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all() and (boxes[:, 2:] <= (90, 60)).all()
        overlap = iou(untrained[index], untrained[index]) - np.eye(len(untrained[index]))
        assert overlap.max(initial=0) <= 0.7 + 1e-5
    entries = [json.loads(line) for line in (done / "proposals" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [50, 100, 150, 200]
    assert {"proposal_class", "proposal_box"} <= entries[0].keys() and not {"box", "focus"} & entries[0].keys()


def test_what_is_done_is_not_done_again(config, squares, done, monkeypatch):
    def never(*rest, **more):
        raise AssertionError("done before")

    monkeypatch.setattr(command.stage, "run", never)
    before = (done / "proposals.npz").read_bytes()
    # Settings of the detector's training alone change nothing here.
    other = dataclasses.replace(config.training, steps=99, negative_chips=1, ema=0.0)
    command.run_stage(dataclasses.replace(config, training=other), squares, done, quiet())
    assert (done / "proposals.npz").read_bytes() == before


@pytest.mark.slow
def test_a_stopped_stage_goes_on(config, squares, done, tmp_path, monkeypatch):
    """Stopped after 100 steps, and again between training and the file: the same proposals in the end."""
    run = command.stage.loop.run

    def stopped(step, state, batches, training, *rest):
        run(step, state, batches, dataclasses.replace(training, steps=100), *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(command.stage.loop, "run", stopped)
        command.run_stage(config, squares, tmp_path, quiet())
    assert not (tmp_path / "proposals.npz").exists()
    command.run_stage(config, squares, tmp_path, quiet())
    one, other = (proposals.read(folder / "proposals.npz", squares) for folder in (done, tmp_path))
    for index in range(IMAGES):
        np.testing.assert_array_equal(one(index), other(index))

    before = (tmp_path / "proposals.npz").read_bytes()
    (tmp_path / "proposals.npz").unlink()
    monkeypatch.setattr(command, "CompiledDetector", lambda *rest: lambda *batch: pytest.fail("all pieces are there"))
    command.run_stage(config, squares, tmp_path, quiet())
    assert (tmp_path / "proposals.npz").read_bytes() == before


def test_another_config_is_refused(config, squares, done):
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=0.5))
    before = (done / "proposals" / "config.json").read_bytes()
    with pytest.raises(LedgerError, match=r"training\.learning_rate: 0\.05 -> 0\.5.*another --workdir") as caught:
        command.run_stage(other, squares, done, quiet())
    assert "\n" not in str(caught.value) and (done / "proposals" / "config.json").read_bytes() == before


def test_proposals_of_other_images(config, squares, done, memory_dataset):
    fewer = memory_dataset(squares.images[:5], squares.truths[:5])
    with pytest.raises(LedgerError, match=r"trained on\.images: 12 -> 5"):
        command.run_stage(config, fewer, done, quiet())
    with pytest.raises(ProposalsError, match="images: 12 -> 5"):
        proposals.read(done / "proposals.npz", fewer)


def test_a_file_of_other_images_of_the_same_number(config, squares, done, memory_dataset, tmp_path):
    """It was copied from another training: its boxes lie on other images."""
    shutil.copy(done / "proposals.npz", tmp_path)
    assert command.run_stage(config, squares, tmp_path, quiet()) == tmp_path / "proposals.npz"  # made elsewhere
    turned = memory_dataset([np.zeros((90, 60, 3), np.uint8)] * IMAGES, squares.truths)
    with pytest.raises(LedgerError, match="names and sizes"):
        command.run_stage(config, turned, done, quiet())
    shutil.rmtree(tmp_path / "proposals")
    with pytest.raises(ProposalsError, match="are of other images"):
        command.run_stage(config, turned, tmp_path, quiet())


def test_what_other_weights_proposed_is_done_again(config, squares, done, tiny_variables, tmp_path, monkeypatch):
    """A file beside a stage whose weights are others, and one with other settings than were accepted."""
    shutil.copytree(done, tmp_path / "run")
    path, before = tmp_path / "run" / "proposals.npz", (done / "proposals.npz").read_bytes()
    wrong = [np.ones((1, 4), np.float32)] * IMAGES
    proposals.write(path, wrong, squares, command._origin(command.stage_config(config), tiny_variables))
    command.run_stage(config, squares, tmp_path / "run", quiet())
    assert path.read_bytes() == before
    fewer = dataclasses.replace(config, training=dataclasses.replace(config.training, proposals_kept=3))
    with pytest.raises(LedgerError, match=r"training\.proposals_kept: 8 -> 3"):
        command.run_stage(fewer, squares, tmp_path / "run", quiet())
    command.run_stage(fewer, squares, tmp_path / "run", quiet(), accept_changes=True)
    found = proposals.read(path, squares)
    assert max(len(found(index)) for index in range(IMAGES)) == 3


def test_pieces_of_other_weights_are_done_again(config, squares, tiny_variables, draw_variables, tmp_path):
    first = command.propose_all(config, squares, tiny_variables, tmp_path, quiet())
    other = command.propose_all(config, squares, draw_variables(config.detector, 1), tmp_path, quiet())
    again = command.propose_all(config, squares, tiny_variables, tmp_path, quiet())
    same = [np.array_equal(one, two) for one, two in zip(first, other, strict=True)]
    assert not all(same) and all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))


def test_two_stages_of_one_workdir(config, squares, done):
    with locked(done / "proposals"), pytest.raises(LedgerError, match="proposals is in use by process"):
        command.run_stage(config, squares, done, quiet())


def test_images_that_cannot_be_read(config, squares, memory_dataset, tiny_variables, tmp_path):
    console = Screen(record=True, width=200, file=io.StringIO())
    images = [*squares.images[:2], None]
    found = command.propose_all(config, memory_dataset(images, squares.truths[:3]), tiny_variables, tmp_path, console)
    assert len(found[0]) and len(found[1]) and found[2].shape == (0, 4)
    printed = console.export_text()
    assert "1 images could not be read and have no proposals" in printed and "2.png" in printed
    (tmp_path / "none").mkdir()
    with pytest.raises(AutoFocusError, match="none of 2 training images could be read"):
        command.propose_all(
            config, memory_dataset([None, None], squares.truths[:2]), tiny_variables, tmp_path / "none", quiet()
        )


def test_starting_from_given_variables(config, squares, tiny_variables, tmp_path, monkeypatch):
    begun = []

    def stopped(stage, state, console):
        begun.append(jax.tree.map(np.array, state.params))
        raise KeyboardInterrupt

    monkeypatch.setattr(command.stage, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        command.run_stage(config, squares, tmp_path, quiet(), put=lambda drawn: tiny_variables)
    jax.tree.map(np.testing.assert_array_equal, begun[0], tiny_variables["params"])
