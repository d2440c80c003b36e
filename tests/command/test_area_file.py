"""--where: every kind of file, every use, and files that are none."""

import json

import cv2
import numpy as np
import pytest

from autofocus_jax.command.area_file import read_area
from autofocus_jax.command.detection_run import Source
from autofocus_jax.command.inputs import Item
from autofocus_jax.config import ConfigError
from autofocus_jax.errors import ImageError

SIZE = (40, 60)  # height, width of the image
BOX = (12, 8, 30, 24)  # x1, y1, x2, y2
RING = [[12, 8], [30, 8], [30, 24], [12, 24], [12, 8]]
HOLE = [[18, 12], [24, 12], [24, 20], [18, 20], [18, 12]]


@pytest.fixture
def item(tmp_path):
    return Item(tmp_path / "photos" / "a.png", "below/a", "below/a.png", False)


@pytest.fixture
def heat(item):
    """heat(path, use) -> the map of the image."""
    return lambda path, use="only", size=SIZE: read_area(str(path), use, [item]).heat(Source(item, None, None), size)


def wanted():
    mask = np.zeros(SIZE, np.float32)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    return mask


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        assert cv2.imwrite(str(path), content)
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


POLYGON = {"type": "Polygon", "coordinates": [RING]}
FILES = {
    "mask.png": (wanted() * 255).astype(np.uint8),
    "colour.png": np.stack([np.zeros(SIZE), wanted() * 200, np.zeros(SIZE)], axis=2).astype(np.uint8),
    "heat.npy": wanted(),
    "bool.npy": wanted() > 0,
    "boxes.json": [BOX],
    "polygon.geojson": POLYGON,
    "feature.geojson": {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": POLYGON}]},
    "several.geojson": {
        "type": "GeometryCollection",
        "geometries": [{"type": "MultiPolygon", "coordinates": [[RING]]}],
    },
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_says_the_same(name, tmp_path, heat):
    found = heat(write(tmp_path / name, FILES[name]))
    assert found.shape == SIZE
    edge = 1 if name.endswith(("json",)) else 0  # what OpenCV draws holds the border itself
    inside = slice(BOX[1], BOX[3]), slice(BOX[0], BOX[2])
    around = slice(BOX[1] - edge, BOX[3] + edge), slice(BOX[0] - edge, BOX[2] + edge)
    outside = np.ones(SIZE, bool)
    outside[around] = False
    assert (found[inside] == 1).all() and not found[outside].any()


def test_a_hole_is_outside(tmp_path, heat):
    found = heat(write(tmp_path / "a.geojson", {"type": "Polygon", "coordinates": [RING, HOLE]}))
    assert found[9, 13] == 1 and found[16, 21] == 0


def test_the_uses(tmp_path, item, heat):
    path = write(tmp_path / "mask.png", FILES["mask.png"])
    assert np.array_equal(heat(path, "not"), 1 - wanted()) and np.array_equal(heat(path, "also"), wanted())
    limits = [read_area(str(path), use, [item]).limits for use in ("only", "also", "not")]
    assert limits == [True, False, True]


def test_a_mask_of_the_same_proportions(tmp_path, heat):
    path = write(tmp_path / "mask.png", FILES["mask.png"])
    assert heat(path, size=(400, 600)).shape == SIZE and heat(path, size=(81, 120)).shape == SIZE
    with pytest.raises(ImageError, match="has 60x40 px for an image of 40x60 px; give it the image's size"):
        heat(path, size=(60, 40))


def test_a_large_image_gets_a_smaller_map(tmp_path, heat):
    found = heat(write(tmp_path / "a.json", [[0, 0, 10_000, 500]]), size=(1000, 20_000))
    assert found.shape == (205, 4096) and found[:100, :2040].all() and not found[106:].any()


def test_a_folder_has_a_file_for_each_image(tmp_path, item, heat):
    write(tmp_path / "areas" / "below" / "a.json", [BOX])
    assert heat(tmp_path / "areas")[16, 20] == 1
    other = item._replace(name="b", file_name="b.png")
    with pytest.raises(ConfigError, match=r"has no file for 1 of 2 images, as b\.png; give each"):
        read_area(str(tmp_path / "areas"), "only", [item, other])


def test_a_folder_whose_file_is_none_names_the_image(tmp_path, heat):
    write(tmp_path / "areas" / "below" / "a.json", "[")
    with pytest.raises(ImageError, match=r"a.json cannot be understood; want a list of boxes"):
        heat(tmp_path / "areas")


def test_nothing_marked_on_purpose(tmp_path, heat):
    assert not heat(write(tmp_path / "a.json", [])).any()


@pytest.mark.parametrize("box", [(100, 0, 120, 20), (-30, -30, -1, -1)])
def test_outside_the_image(tmp_path, heat, box):
    with pytest.raises(ImageError, match="lies outside an image of 60x40 px; give its coordinates in px"):
        heat(write(tmp_path / "a.json", [box]))


BAD = {
    "missing.png": (None, "missing"),
    "missing.json": (None, "cannot be read"),
    "a.txt": ("12 8 30 24", "has an unknown suffix"),
    "no.png": ("no image", "no.png"),
    "no.npy": ("text", "is no array of numbers that np.save wrote"),
    "three.json": ([[1, 2, 3]], "want a list of boxes"),
    "turned.json": ([[30, 8, 12, 24]], "want a list of boxes"),
    "word.json": ("[[1, 2, 3, \"x\"]]", "want a list of boxes"),
    "nan.json": ("[[NaN, 2, 3, 4]]", "want a list of boxes"),
    "far.json": ([[0, 0, 1e300, 4]], "want a list of boxes"),
    "object.json": ({"a": 1}, "want a list of boxes"),
    "number.json": ("3", "want a list of boxes"),
    "deep.json": ("[" * 100_000, "want a list of boxes"),
    "point.geojson": ({"type": "Point", "coordinates": [1, 2]}, "want GeoJSON polygons"),
    "list.geojson": ([1], "want GeoJSON polygons"),
    "null.geojson": ({"type": "Feature", "geometry": None}, "want GeoJSON polygons"),
    "flat.geojson": ({"type": "Polygon", "coordinates": [[1, 2]]}, "want GeoJSON polygons"),
    "empty.geojson": ({"type": "Polygon", "coordinates": [[]]}, "want GeoJSON polygons"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_none(name, tmp_path, heat):
    content, says = BAD[name]
    path = tmp_path / name
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError, match=says) as error:
        heat(path)
    assert str(error.value).startswith("--where: ") and "\n" not in str(error.value)


def test_heat_maps_that_are_none(tmp_path, heat):
    for number, (values, says) in enumerate([(np.full(SIZE, 255), "must lie in 0..1"), (np.zeros(3), r"\[H, W\]")]):
        with pytest.raises(ConfigError, match=says):
            heat(write(tmp_path / f"{number}.npy", values))
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ConfigError, match=r"no array of numbers that np\.save wrote"):
        heat(tmp_path / "pickled.npy")
