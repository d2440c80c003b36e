"""The rendered scenes: what they must hold to need the method, that they repeat, and how they are kept on disk."""

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import pytest

from autofocus_jax import boxes as box_ops
from autofocus_jax.scenes import source as scenes
from autofocus_jax.scenes import sprites
from autofocus_jax.scenes.rendering import image_generator
from autofocus_jax.scenes.source import CATEGORIES, ScenesSource, render_scene
from autofocus_jax.structures import AutoFocusError


@pytest.fixture(scope="module")
def rendered():
    """160 scenes: their sizes (h, w) and ground truths."""
    pairs = [render_scene(image_generator(5, "train", index)) for index in range(160)]
    return [image.shape[:2] for image, _ in pairs], [truth for _, truth in pairs]


def sizes_of(truth):
    return np.sqrt(box_ops.area(truth.boxes[~truth.ignore]))


def fingerprint(truths) -> str:
    digest = hashlib.sha256()
    for truth in truths:
        for array, kind in zip(truth, ("<f4", "<i4", "u1")):
            digest.update(array.astype(kind).tobytes())
    return digest.hexdigest()[:16]


def test_annotations_are_the_same_everywhere():
    """A change here changes the data set: raise scenes.VERSION and retrain what is shipped."""
    truths = [render_scene(image_generator(0, "tune", index))[1] for index in range(8)]
    assert fingerprint(truths) == "8ee5b7e5266156ba"


def test_pixels_are_the_same_everywhere():
    """Only nearly: OpenCV's resizing and blurring round differently on different processors."""
    image, _ = render_scene(image_generator(0, "tune", 0))
    assert image.shape == (480, 640, 3) and image.dtype == np.uint8
    np.testing.assert_allclose(image.mean(axis=(0, 1)), [145.6, 137.9, 137.7], atol=0.5)
    np.testing.assert_allclose(image.std(axis=(0, 1)), [22.2, 26.9, 29.5], atol=0.5)


def test_rendering_depends_on_the_generator_alone():
    first, again, other = (render_scene(image_generator(*key)) for key in ((1, "val", 4), (1, "val", 4), (1, "val", 5)))
    np.testing.assert_array_equal(first[0], again[0])
    for one, two in zip(first[1], again[1]):
        np.testing.assert_array_equal(one, two)
    assert first[0].shape != other[0].shape or (first[0] != other[0]).mean() > 0.5
    keys = [(0, "train", 0), (0, "val", 0), (0, "tune", 0), (1, "train", 0), (0, "train", 1)]
    assert len({image_generator(*key).integers(2**62) for key in keys}) == len(keys)


def test_ground_truth_is_well_formed(rendered):
    for (height, width), truth in zip(*rendered):
        assert truth.boxes.dtype == np.float32 and truth.boxes.shape == (len(truth.labels), 4)
        assert truth.labels.dtype == np.int32 and truth.ignore.dtype == bool
        assert ((truth.labels >= 0) & (truth.labels < len(CATEGORIES))).all()
        np.testing.assert_array_equal(box_ops.clip(truth.boxes, height, width), truth.boxes)
        assert (truth.boxes[:, 2:] - truth.boxes[:, :2] >= 4).all()


def test_sizes_are_spread_evenly_over_their_logarithm(rendered):
    sizes = np.concatenate([sizes_of(truth) for truth in rendered[1]])
    share = np.histogram(sizes, [0, 9, 20, 40, 80, 160, 405])[0] / len(sizes)
    assert share[0] < 0.01 and share.sum() == pytest.approx(1)
    assert (share[1:] > 0.11).all() and (share[1:] < 0.3).all(), share


def test_images_without_small_objects_and_empty_ones(rendered):
    without_small = np.mean([not (sizes_of(truth) < 40).any() for truth in rendered[1]])
    assert 0.22 < without_small < 0.45
    assert 0 < np.mean([len(truth.boxes) == 0 for truth in rendered[1]]) < 0.1
    assert 0 < np.mean([truth.ignore.any() for truth in rendered[1]]) < 0.1


def test_categories_are_even_and_do_not_depend_on_size(rendered):
    labels = np.concatenate([truth.labels[~truth.ignore] for truth in rendered[1]])
    sizes = np.concatenate([sizes_of(truth) for truth in rendered[1]])
    counts = np.bincount(labels, minlength=len(CATEGORIES))
    assert counts.min() > 0.6 * counts.mean() and counts.max() < 1.5 * counts.mean()
    deviation = np.log(sizes).std() / np.sqrt(counts.min())
    for label in range(len(CATEGORIES)):
        assert abs(np.log(sizes[labels == label]).mean() - np.log(sizes).mean()) < 4 * deviation


def test_small_objects_occupy_a_small_part_of_the_image(rendered):
    shares = []
    for (height, width), truth in zip(*rendered):
        cells = np.zeros((height // 32 + 1, width // 32 + 1), bool)
        small = truth.boxes[~truth.ignore][sizes_of(truth) < 40]
        for x1, y1, x2, y2 in (small / 32).astype(int):
            cells[max(y1 - 1, 0) : y2 + 2, max(x1 - 1, 0) : x2 + 2] = True
        shares.append(cells.mean())
    assert 0.03 < np.mean(shares) < 0.15


@pytest.mark.parametrize("size", [10, 24, 80, 300])
@pytest.mark.parametrize("name", CATEGORIES)
def test_sprite_boxes_are_tight(name, size):
    generator = np.random.default_rng(size)
    centre = np.array([250.0, 260.0]) + generator.random(2)
    sprite = sprites.draw(generator, name, size, centre, np.array([0.6, -0.8]), np.array([900.0, 900.0]))
    covered = sprite.alpha > 0.4
    columns, rows = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert np.abs(seen + np.tile([sprite.x, sprite.y], 2) - sprite.box).max() <= 1.1
    assert np.sqrt(np.prod(sprite.box[2:] - sprite.box[:2])) == pytest.approx(size, rel=0.02)
    np.testing.assert_allclose((sprite.box[:2] + sprite.box[2:]) / 2, centre, atol=0.07)
    assert sprite.colour.shape == (*sprite.alpha.shape, 3) and sprite.colour.min() >= 0 and sprite.colour.max() <= 255


def masks(name: str, side: int) -> np.ndarray:
    """Mean [side, side, 2] of plate-and-lobes and of ink over random shapes, drawn plainly."""
    generator = np.random.default_rng(3)
    total = []
    for _ in range(30):
        parts = sprites.drawing(name, int(generator.integers(len(sprites.PLATES))))
        matrix = sprites.shape_matrix(generator)
        canvas = np.zeros((2, 96, 96), np.uint8)
        for layer, polygons, value in (
            (0, [parts.plate, *parts.lobes], 255), (1, parts.ink, 255), (1, parts.holes, 0), (1, parts.lobes, 255),
        ):  # fmt: skip
            for polygon in polygons:
                sprites.fill(canvas[layer], 48 + 60 * polygon @ matrix.T, value)
        canvas[1] &= canvas[0]
        total.append([cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA) for layer in canvas])
    return np.array(total, np.float32).reshape(30, -1) / 255


def nearest_mean_accuracy(side: int) -> float:
    samples = np.stack([masks(name, side) for name in CATEGORIES])  # [K, 30, D]
    means = samples[:, :15].mean(axis=1)
    distance = ((samples[:, 15:, None] - means) ** 2).sum(axis=-1)
    return float((distance.argmin(axis=-1) == np.arange(len(CATEGORIES))[:, None]).mean())


def test_detail_is_there_at_12_px_and_lost_at_4():
    assert nearest_mean_accuracy(16) > 0.9  # objects of about 12 px
    assert nearest_mean_accuracy(4) < nearest_mean_accuracy(16) - 0.05


def test_plate_and_ink_differ_in_luminance():
    generator = np.random.default_rng(0)
    for _ in range(300):
        plate, rim, ink = sprites.colours(generator)
        assert abs((plate - ink) @ [0.299, 0.587, 0.114]) > 60
        assert min(plate.min(), rim.min(), ink.min()) >= 0 and max(plate.max(), rim.max(), ink.max()) <= 255


def test_split_on_disk(tmp_path):
    source = ScenesSource(seed=2, val=4, folder=str(tmp_path))
    data = source.open("val")
    assert len(data) == 4 and data.categories == CATEGORIES and len(CATEGORIES) >= 12
    for index in range(4):
        image, truth = render_scene(image_generator(2, "val", index))
        stored, read = data[index]
        smooth = (cv2.blur(item, (7, 7)).astype(int) for item in (stored, image))  # JPEG takes from the noise
        assert np.abs(np.subtract(*smooth)).mean() < 2
        for mine, wanted in zip(read, truth):
            np.testing.assert_array_equal(mine, wanted)
    (folder,) = tmp_path.iterdir()  # nothing temporary is left
    before = (folder / "annotations.json").stat().st_mtime_ns
    source.open("val")
    assert (folder / "annotations.json").stat().st_mtime_ns == before
    more = ScenesSource(seed=2, val=5, folder=str(tmp_path)).open("val")
    np.testing.assert_array_equal(more.ground_truth(3).boxes, data.ground_truth(3).boxes)


def test_worker_processes_render_the_same(tmp_path, monkeypatch):
    alone = ScenesSource(tune=4, folder=str(tmp_path / "alone")).open("tune")
    monkeypatch.setattr(scenes, "IMAGES_PER_WORKER", 2)
    monkeypatch.setattr(scenes, "cores", lambda: 2)
    together = ScenesSource(tune=4, folder=str(tmp_path / "together")).open("tune")
    for index in range(4):
        assert together.info(index) == alone.info(index)
        np.testing.assert_array_equal(together.image(index), alone.image(index))
        np.testing.assert_array_equal(together.ground_truth(index).boxes, alone.ground_truth(index).boxes)


def test_a_failing_worker_is_one_line(tmp_path, monkeypatch):
    def broken(*arguments):
        raise BrokenProcessPool("a process ended")

    monkeypatch.setattr(scenes.ProcessPoolExecutor, "map", broken)
    monkeypatch.setattr(scenes, "IMAGES_PER_WORKER", 1)
    monkeypatch.setattr(scenes, "cores", lambda: 2)
    with pytest.raises(AutoFocusError, match="a process of it ended") as caught:
        ScenesSource(tune=3, folder=str(tmp_path)).open("tune")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_workers_do_not_import_jax():
    code = "import sys, autofocus_jax.scenes.rendering; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.strip() == b"False"


def test_two_processes_may_render_the_same_split(tmp_path):
    source = ScenesSource(tune=2, folder=str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: source.open("tune"), range(2))
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(first.image(1), second.image(1))


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOFOCUS_CACHE", str(tmp_path / "cache"))
    data = ScenesSource(tune=1).open("tune")
    assert data.annotations_file.is_relative_to(tmp_path / "cache")
    assert json.loads(data.annotations_file.read_text())["categories"][0] == {"id": 1, "name": CATEGORIES[0]}


@pytest.mark.parametrize(
    "source, split, wanted",
    [
        (ScenesSource(), "test", "no split 'test'"),
        (ScenesSource(val=0), "val", "val=0"),
        (ScenesSource(seed=-1), "val", "seed=-1"),
        (ScenesSource(folder="/dev/null/x"), "val", "AUTOFOCUS_CACHE"),
    ],
)
def test_bad_settings(source, split, wanted):
    with pytest.raises(AutoFocusError, match=wanted) as caught:
        source.open(split)
    assert "\n" not in str(caught.value)
