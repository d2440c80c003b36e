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
    edge = name.endswith(".geojson")  # what OpenCV draws holds the border itself
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
    "none.geojson": ({"type": "Feature"}, "want GeoJSON polygons"),
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


def test_a_graded_map_leaves_out_all_that_is_not_0(tmp_path, heat):
    assert np.array_equal(heat(write(tmp_path / "heat.npy", wanted() * 0.7), "not"), wanted() == 0)


def test_boxes_are_drawn_to_the_pixel(tmp_path, heat):
    assert np.array_equal(heat(write(tmp_path / "a.json", [BOX])), wanted() > 0)
    touched = heat(write(tmp_path / "b.json", [[12.5, 8.5, 29.5, 23.5], [-5, -5, 0.5, 0.5]]))
    assert np.array_equal(touched[1:], wanted()[1:] > 0) and touched[0, :2].tolist() == [True, False]


def test_no_photograph_is_its_own_mask(tmp_path, item):
    write(item.path, np.zeros(SIZE, np.uint8))
    given = item._replace(name="a", file_name="a.png")
    with pytest.raises(ConfigError, match=r"no file for 1 of 1 images, as a\.png"):
        read_area(str(tmp_path / "photos"), "only", [given])


def test_names_of_files_in_a_folder(tmp_path, item):
    """a.jpg beside a.png has results called a_jpg; both find a.json. Suffixes may be upper case; vectors come first."""
    write(tmp_path / "areas" / "a.json", [BOX])
    write(tmp_path / "areas" / "a.png", np.zeros(SIZE, np.uint8))
    (write(tmp_path / "areas" / "b.png", FILES["mask.png"])).rename(tmp_path / "areas" / "b.PNG")
    others = [item._replace(name="a", file_name="a.png"), item._replace(name="a_jpg", file_name="a.jpg"),
              item._replace(name="b", file_name="b.png")]  # fmt: skip
    area = read_area(str(tmp_path / "areas"), "only", others)
    for other in others:
        assert np.array_equal(area.map_of(Source(other, None, None), SIZE), wanted() > 0)


def test_a_mask_that_is_transparent_in_places_is_refused(tmp_path, heat):
    clear = np.dstack([np.full((*SIZE, 3), 255), wanted() * 255]).astype(np.uint8)
    with pytest.raises(ConfigError, match="is transparent in places; give a mask without that"):
        heat(write(tmp_path / "layer.png", clear))
    nothing = np.dstack([FILES["colour.png"], np.zeros(SIZE, np.uint8)])
    with pytest.raises(ConfigError, match="is transparent in places"):
        heat(write(tmp_path / "nothing.png", nothing))
    opaque = np.dstack([FILES["colour.png"], np.full(SIZE, 255, np.uint8)])
    assert np.array_equal(heat(write(tmp_path / "opaque.png", opaque)), wanted() > 0)


def test_features_without_geometry_and_empty_polygons_mark_nothing(tmp_path, heat):
    features = [{"type": "Feature", "geometry": None}, {"type": "Feature", "geometry": POLYGON}]
    assert heat(write(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": features}))[16, 20]
    assert not heat(write(tmp_path / "b.geojson", {"type": "Polygon", "coordinates": []})).any()


def test_degrees_are_no_pixels(tmp_path, heat):
    ring = [[8.1, 50.1], [8.2, 50.1], [8.2, 50.2], [8.1, 50.1]]
    with pytest.raises(ConfigError, match="covers less than a pixel; give its coordinates in px of the image, not in"):
        heat(write(tmp_path / "a.geojson", {"type": "Polygon", "coordinates": [ring]}))
