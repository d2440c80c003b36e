"""TIFF files read by windows, against the arrays that they were written from and OpenCV's area means."""

import json
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus_jax.command.geojson import corners
from autofocus_jax.command.main import main
from autofocus_jax.data import raster
from autofocus_jax.data.image import limit_pixels
from autofocus_jax.data.raster import Place, Raster, by_windows, place_of, read_or_open
from autofocus_jax.focus.pyramid import Part, crop
from autofocus_jax.structures import ImageError
from tests.square_finder import write_square_finder

rasterio = pytest.importorskip("rasterio", reason="wants rasterio: pip install -e '.[raster]'")

UTM = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(500_000, 5_000_000, 0.5, 0.5)}


def write(path, bands, overviews=(2, 4, 8, 16), **profile):
    """Write bands [n, h, w] in tiles of 256 px and return the path."""
    count, height, width = bands.shape
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", **UTM}
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **tiles | profile) as file:
            file.write(bands)
            if overviews:
                file.build_overviews(overviews, rasterio.enums.Resampling.average)
    return path


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


@pytest.fixture(autouse=True)
def small_limit(monkeypatch):
    monkeypatch.setenv("AUTOFOCUS_MAX_PIXELS", "100000")


@pytest.mark.parametrize(
    "bands, profile",
    [
        (noise(3, 500, 700), {"photometric": "rgb"}),
        (noise(1, 500, 700), {}),
        (noise(3, 500, 700, dtype=np.uint16), {"photometric": "rgb"}),
        (noise(4, 500, 700), {"photometric": "rgb", "alpha": "yes"}),
        (noise(4, 500, 700), {"photometric": "rgb", "alpha": "no"}),
        (noise(1, 500, 700), {"photometric": "miniswhite"}),
    ],
    ids=["rgb", "grey", "16 bits", "alpha", "a fourth band", "white is 0"],
)
def test_a_window_is_what_decoding_gives(tmp_path, monkeypatch, bands, profile):
    path = write(tmp_path / "a.tif", bands, **profile)
    opened = read_or_open(path)
    assert isinstance(opened, Raster) and opened.shape == (500, 700, 3)
    limit_pixels(10**6)
    decoded = read_or_open(path)
    assert isinstance(decoded, np.ndarray)
    for x1, y1, x2, y2 in ((0, 0, 700, 500), (250, 100, 300, 400), (699, 499, 700, 500)):
        window = opened.read((x1, y1, x2, y2), (y2 - y1, x2 - x1))
        assert window.dtype == np.uint8 and window.flags.c_contiguous
        # OpenCV rounds 16 bits to the nearest of 8, and transparency on white twice.
        rounds = bands.dtype == np.uint16 or profile.get("alpha") == "yes"
        np.testing.assert_allclose(window.astype(int), decoded[y1:y2, x1:x2], atol=1 if rounds else 0)


def test_a_coarse_level_is_the_area_mean(tmp_path):
    image = cv2.resize(noise(40, 60, 3), (960, 640), interpolation=cv2.INTER_CUBIC)
    opened = Raster(write(tmp_path / "a.tif", image.transpose(2, 0, 1), photometric="rgb"))
    for box, factor in (((0, 0, 960, 640), 0.1), ((0, 0, 960, 640), 0.25), ((64, 128, 704, 448), 0.125)):
        ours, shown, _ = crop(opened, np.array(box), factor)
        expected, also, _ = crop(image, np.array(box), factor)
        np.testing.assert_array_equal(shown, also)
        assert ours.shape == expected.shape
        assert np.abs(ours.astype(int) - expected).mean() < 2  # overviews are rounded, and GDAL takes whole pixels
    larger, _, _ = crop(opened, np.array([100, 100, 200, 200]), 2.0)
    expected = crop(image, np.array([100, 100, 200, 200]), 2.0)[0]
    assert np.abs(larger[4:-4, 4:-4].astype(int) - expected[4:-4, 4:-4]).mean() < 1.5


def test_a_part_reads_its_own_part_of_the_image(tmp_path):
    image = noise(512, 768, 3)
    opened = Raster(write(tmp_path / "a.tif", image.transpose(2, 0, 1), photometric="rgb"))
    part = Part(opened, np.array([128, 64, 640, 448]), (384, 512))
    assert part.shape == (384, 512, 3)
    np.testing.assert_array_equal(part[10:20, 30:70], image[74:84, 158:198])
    np.testing.assert_array_equal(part[:, :], image[64:448, 128:640])
    half = Part(opened, np.array([128, 64, 640, 448]), (192, 256))
    whole = half[:, :]
    np.testing.assert_allclose(half[32:96, 64:128].astype(int), whole[32:96, 64:128], atol=1)
    np.testing.assert_array_equal(crop(part, np.array([10, 20, 110, 60]), 1.0)[0], image[84:124, 138:238])


def test_bytes_fall_as_pixels_do(tmp_path):
    if not Path("/proc/self/io").exists():
        pytest.skip("counts bytes by Linux's /proc/self/io")
    path = write(tmp_path / "a.tif", noise(3, 4096, 4096), photometric="rgb")
    opened = Raster(path)
    before = read_so_far()
    opened.read((0, 0, 4096, 4096), (256, 256))  # a 256th of the pixels
    opened.read((1000, 1000, 1300, 1300), (300, 300))
    assert read_so_far() - before < os.path.getsize(path) / 20


def read_so_far():
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_what_is_read_by_windows(tmp_path):
    large = write(tmp_path / "large.tif", noise(3, 400, 400), photometric="rgb")
    small = write(tmp_path / "small.tif", noise(3, 100, 100), photometric="rgb")
    cv2.imwrite(str(tmp_path / "large.png"), noise(400, 400, 3))
    (tmp_path / "text.tif").write_text("no picture")
    assert by_windows(large) and not by_windows(small) and not by_windows(tmp_path / "large.png")
    assert not by_windows(tmp_path / "text.tif") and not by_windows(tmp_path) and not by_windows(tmp_path / "none.tif")
    with pytest.raises(ImageError, match="above the limit"):
        read_or_open(tmp_path / "large.png")


def test_files_that_cannot_be_read_by_windows(tmp_path, monkeypatch):
    good = write(tmp_path / "good.tif", noise(3, 400, 400), overviews=(), photometric="rgb")
    content = good.read_bytes()

    def refused(match, path=good):
        with pytest.raises(ImageError, match=match) as caught:
            Raster(path)
        assert "\n" not in str(caught.value) and path.name in str(caught.value)

    with monkeypatch.context() as patch:
        patch.setattr(raster, "_LARGEST_LEVEL", 400 * 400 - 1)
        refused("has 400x400 px and no overview below 159999 pixels; add overviews")
        patch.setattr(raster, "_LARGEST_BLOCK", 3 * 256 * 256 - 1)
        refused("stored in pieces of 256x256 px")
    with monkeypatch.context() as patch:
        patch.setattr(raster.importlib.util, "find_spec", lambda name: None)
        refused(r"above the limit of 100000 pixels .* pip install 'autofocus_jax\[raster\]'")
    refused("bits", write(tmp_path / "float.tif", np.zeros((1, 400, 400), np.float32)))
    refused("5 bands", write(tmp_path / "five.tif", noise(5, 400, 400)))
    palette = write(tmp_path / "palette.tif", noise(1, 400, 400), photometric="palette")
    refused("has a palette", palette)
    (tmp_path / "head.tif").write_bytes(content[:16])
    refused("cannot be", tmp_path / "head.tif")
    turned = tmp_path / "turned.tif"
    from PIL import Image

    Image.fromarray(noise(400, 400, 3)).save(turned, tiffinfo={274: 6})
    refused(r"orientation tag \(6\)", turned)


def test_a_damaged_tile_fails_where_it_is_read(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 400, 400), overviews=(), photometric="rgb", interleave="pixel")
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    path.write_bytes(content)
    opened = Raster(path)
    with pytest.raises(ImageError, match=r"a\.tif at \[0, 0, 400, 400\] cannot be read"):
        opened.read((0, 0, 400, 400), (400, 400))


def test_places(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 40, 40), overviews=())
    assert place_of(path) == Place(32633, (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0))
    bare = write(tmp_path / "bare.tif", noise(1, 40, 40), overviews=(), crs=None, transform=None)
    with pytest.raises(ImageError, match=r"no coordinate reference system \(CRS\)"):
        place_of(bare)
    unplaced = write(tmp_path / "unplaced.tif", noise(1, 40, 40), overviews=(), transform=None)
    with pytest.raises(ImageError, match="has a CRS and no geotransform"):
        place_of(unplaced)
    broken = write(tmp_path / "broken.tif", noise(1, 40, 40), overviews=(),
                   transform=rasterio.Affine(float("nan"), 0, 5e5, 0, -1, 5e6))  # fmt: skip
    with pytest.raises(ImageError, match="places nothing"):
        place_of(broken)
    own = "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=37.5 +lon_0=-96 +x_0=7 +ellps=sphere"
    with pytest.raises(ImageError, match="without an EPSG code"):
        place_of(write(tmp_path / "own.tif", noise(1, 40, 40), overviews=(), crs=own))
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match="no TIFF file"):
        place_of(tmp_path / "a.png")


def test_tiles_that_the_decoder_leaves_empty_are_refused(tmp_path):
    """OpenCV 5.0 fills no last column of tiles of 16-bit grey images."""
    narrow = write(tmp_path / "narrow.tif", noise(1, 200, 300, dtype=np.uint16), overviews=())
    with pytest.raises(ImageError, match="is grey, in tiles that do not divide its width"):
        read_or_open(narrow)
    for name, bands in (("fits", noise(1, 150, 512, dtype=np.uint16)), ("eight", noise(1, 200, 300))):
        image = read_or_open(write(tmp_path / f"{name}.tif", bands, overviews=()))
        np.testing.assert_array_equal(image[..., 1], bands[0] >> (8 if bands.dtype == np.uint16 else 0))


def test_bands_that_are_not_marked_as_rgb(tmp_path):
    """OpenCV would read the first band alone; by windows they are the three colours."""
    with pytest.raises(ImageError, match="has 3 bands that are not marked as RGB"):
        read_or_open(write(tmp_path / "small.tif", noise(3, 40, 60), overviews=(), photometric="minisblack"))
    large = write(tmp_path / "large.tif", noise(3, 400, 400), photometric="minisblack")
    np.testing.assert_array_equal(read_or_open(large).read((0, 0, 400, 400), (400, 400)).transpose(2, 0, 1),
                                  noise(3, 400, 400))  # fmt: skip


def test_samples_of_twelve_bits(tmp_path, caplog):
    path = write(tmp_path / "packed.tif", noise(1, 400, 400, dtype=np.uint16) >> 4, nbits=12)
    with pytest.raises(ImageError, match="12 bits"):
        Raster(path)
    opened = Raster(write(tmp_path / "dark.tif", noise(1, 400, 400, dtype=np.uint16) >> 4))
    for _ in range(2):
        opened.read((0, 0, 400, 400), (100, 100))
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        f"image {tmp_path / 'dark.tif'} has 16 bits a sample and uses the lower 12 alone"]  # fmt: skip


@pytest.mark.parametrize("affine", [(0.5, 0.0, 100.0, 0.0, -0.5, 200.0), (2.0, 0.0, 0.0, 0.0, 2.0, 0.0),
                                    (0.0, -1.0, 5.0, -1.0, 0.0, 7.0)])  # fmt: skip
def test_rings_are_closed_and_go_round_against_the_clock(affine):
    ring = np.array(corners([10, 20, 30, 50], Place(4326, affine)))
    np.testing.assert_array_equal(ring[0], ring[-1])
    x, y = ring.T
    area = float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)
    a, b, _, d, e, _ = affine
    assert area == pytest.approx(20 * 30 * abs(a * e - b * d)) and area > 0


@pytest.fixture
def scene(tmp_path):
    """A GeoTIFF of 2048 px, black, with three squares that the square finder knows; their boxes."""
    image, boxes = np.zeros((2048, 2048, 3), np.uint8), [(64, 64), (1024, 512), (1600, 1920)]
    for number, (x, y) in enumerate(boxes):
        image[y : y + 8, x : x + 8, number % 2] = 255
    path = write(tmp_path / "scene.tif", image.transpose(2, 0, 1), photometric="rgb")
    return path, sorted([x, y, 8.0, 8.0] for x, y in boxes)


@pytest.mark.parametrize("side", [None, 256])
def test_detect_finds_the_same_by_windows_as_in_the_whole(tmp_path, scene, capsys, side):
    pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")
    path, boxes = scene
    model = str(write_square_finder(tmp_path / "square.onnx", side))
    found = {}
    for name, limit in (("whole", 2048 * 2048), ("windows", 1_000_000)):
        folder = tmp_path / name
        words = ["detect", str(path), "--detector", model, "--output", str(folder), "--write", "coco", "geojson",
                 "pictures", "--max-pixels", str(limit), "--focus-score", "0.01", "--score", "0.6"]  # fmt: skip
        assert main(words) == 0, capsys.readouterr()
        found[name] = json.loads((folder / "detections.json").read_text())["annotations"]
        assert sorted(row["bbox"] for row in found[name]) == boxes
        assert cv2.imread(str(folder / "pictures" / "scene.jpg")).shape == (2048, 2048, 3)
    assert "2048x2048 px, read by windows" in capsys.readouterr().out
    pairs = zip(found["whole"], found["windows"], strict=True)
    assert all(one["category_id"] == other["category_id"] for one, other in pairs)
    polygons = json.loads((tmp_path / "windows" / "geojson" / "scene.geojson").read_text())
    assert polygons["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    west = sorted(min(x for x, _ in feature["geometry"]["coordinates"][0]) for feature in polygons["features"])
    assert west == [500_000 + x / 2 for x, *_ in boxes]


def test_what_detect_refuses(tmp_path, scene, capsys):
    pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")
    path, _ = scene
    words = ["--detector", str(write_square_finder(tmp_path / "square.onnx")), "--output", str(tmp_path / "out")]
    assert main(["detect", str(path), *words, "--write", "panels", "--max-pixels", "1000000"]) == 1
    assert "--write panels wants whole images" in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "a.png"), noise(40, 40, 3))
    assert main(["detect", str(tmp_path / "a.png"), *words, "--write", "geojson"]) == 1
    assert "--write geojson: image" in capsys.readouterr().err
    (tmp_path / "area.json").write_text("[[0, 0, 100, 100]]")
    where = ["--where", str(tmp_path / "area.json"), "--max-pixels", "1000000"]
    assert main(["detect", str(path), *words, *where]) != 0
    assert "read by windows, and a given area wants it whole" in " ".join(capsys.readouterr().out.split())
