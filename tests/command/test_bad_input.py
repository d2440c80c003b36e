"""Sixty and more kinds of bad input over the commands, each with its decided behaviour.

FAILURES: one line on stderr that names the file or option and the remedy, exit code 1, nothing written.
SKIPPED_IMAGES: the run goes on, the file is counted and named, the other images' results are there, exit code 0.
FINE_IMAGES: it is no error after all.
"""

import gzip
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus_jax.command import video

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
PNG, JPG = (cv2.imencode(suffix, PICTURE)[1].tobytes() for suffix in (".png", ".jpg"))
DEMO = (Path(__file__).parents[2] / "configs" / "demo.py").read_bytes()
TIFF32 = cv2.imencode(".tiff", PICTURE.astype(np.float32) / 255)[1].tobytes()


def coco(**changes):
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 60}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": 0}],
    }
    return json.dumps(content | changes).encode()


def box(value):
    return coco(annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": value}])


def one(**changes):
    return {"id": 1, "file_name": "1.png", "height": 40, "width": 60} | changes


def film(frames, size=(32, 48)):
    path = Path("made.mp4").absolute()
    writer = video.VideoWriter(path, *size, 5.0)
    for _ in range(frames):
        writer.add(np.full((*size, 3), 90, np.uint8))
    writer.close()
    content = path.read_bytes()
    path.unlink()
    return content


# Images beside a good one, good.png: (name, content or what makes it, what the reason says).
SKIPPED_IMAGES = [
    ("empty.jpg", b"", "is empty"),
    ("text.jpg", b"no picture\n" * 99, "it is no image file"),
    ("page.png", b"<html><body>404</body></html>", "it is no image file"),
    ("zeros.png", bytes(4000), "it is no image file"),
    ("cut.jpg", JPG[: len(JPG) // 2], "is cut off"),
    ("cut.png", PNG[: len(PNG) // 2], "is cut off"),
    ("head.jpg", JPG[:20], "is cut off"),
    ("head.png", PNG[:8], "is cut off"),
    ("damaged.png", PNG[:60] + bytes(80) + PNG[140:], "cannot be decoded"),
    ("cut.bmp", b"BM" + bytes(10), "cannot be decoded"),
    ("cut.gif", b"GIF89a\x01\x00", "cannot be decoded"),
    ("cut.tif", b"II*\x00\x08\x00\x00\x00", "cannot be decoded"),
    ("cut.webp", b"RIFF\x10\x00\x00\x00WEBPVP8 ", "cannot be decoded"),
    ("phone.jpg", b"\x00\x00\x00\x18ftypheic" + bytes(40), "is HEIC, which is not read; convert it"),
    ("float.tif", TIFF32, "cannot be decoded"),
    ("json.jpg", coco(), "it is no image file"),
    ("empty.mp4", b"", "is missing or empty"),
    ("text.mp4", b"no film" * 99, "cannot be decoded"),
    ("cut.mp4", lambda: film(5)[:200], "cannot be decoded"),
    ("picture.avi", PNG[:50], "cannot be decoded"),
]
# Odd, but fine.
FINE_IMAGES = [
    ("dot.png", cv2.imencode(".png", PICTURE[:1, :1])[1].tobytes()),
    ("line.png", cv2.imencode(".png", np.repeat(PICTURE[:1], 40, axis=1))[1].tobytes()),
    ("grey.png", cv2.imencode(".png", PICTURE[..., 0])[1].tobytes()),
    ("deep.png", cv2.imencode(".png", PICTURE.astype(np.uint16) * 257)[1].tobytes()),
    ("clear.png", cv2.imencode(".png", np.dstack([PICTURE, PICTURE[..., 0]]))[1].tobytes()),
    ("wrong.jpg", PNG),  # another format than its suffix says
    ("UPPER.JPG", JPG),
    ("with blank and ü.png", PNG),
    ("odd[1]{2}*.png", PNG),
    ("longer.jpg", JPG + b"a film of the moment before"),
]

# Words after `autofocus`, files to make (name -> content), what the one line says.
FAILURES = [
    # what to look at
    (["detect", "--weights", "tiny"], {}, "nothing to look at; give images"),
    (["detect", "good.png"], {}, "--weights is missing; give a .safetensors file"),
    (["detect", "nowhere.jpg", "--weights", "tiny"], {}, "nowhere.jpg does not exist; give files"),
    (["detect", "good.png", "nowhere", "--weights", "tiny"], {}, "nowhere does not exist"),
    (["detect", "*.gif", "--weights", "tiny"], {}, "no file matches *.gif; check the pattern"),
    (["detect", "void", "--weights", "tiny"], {"void/": b""}, "folder void holds no image and no video"),
    (["detect", "notes", "--weights", "tiny"], {"notes/a.txt": b"x"}, "folder notes holds no image"),
    (["detect", "", "--weights", "tiny"], {}, "an empty PATH; give files"),
    (["detect", "/dev/null", "--weights", "tiny"], {}, "not one image could be processed"),
    (["detect", "bad.jpg", "--weights", "tiny"], {"bad.jpg": b"x"}, "not one image could be processed"),
    (["detect", "runs/detect/pictures", "--weights", "tiny"], {"runs/detect/pictures/a.png": PNG}, "another --output"),
    # weights
    (["detect", "good.png", "--weights", "none.safetensors"], {}, "none.safetensors do not exist"),
    (["detect", "good.png", "--weights", "w.safetensors"], {"w.safetensors": b""}, "w.safetensors are damaged"),
    (["detect", "good.png", "--weights", "w.safetensors"], {"w.safetensors": PNG}, "get the file anew"),
    (["detect", "good.png", "--weights", "w.pth"], {"w.pth": b"PK\x03\x04" + bytes(99)}, "w.pth are damaged or"),
    (["detect", "good.png", "--weights", "folder"], {"folder/": b""}, "folder holds no config.json"),
    (["detect", "good.png", "--weights", "f"], {"f/config.json": b"{"}, "f/config.json is damaged"),
    (["detect", "good.png", "--weights", "f"], {"f/config.json": b'{"name": 3}'}, "f: data is missing"),
    # options of detect
    (["detect", "good.png", "--weights", "tiny", "--score", "2"], {}, "--score 2; want probabilities"),
    (["detect", "good.png", "--weights", "tiny", "--score", "nan"], {}, "--score nan; want probabilities"),
    (["detect", "good.png", "--weights", "tiny", "--score", "high"], {}, "--score"),
    (["detect", "good.png", "--weights", "tiny", "--threshold", "-1"], {}, "--threshold"),
    (["detect", "good.png", "--weights", "tiny", "--threshold", "0.1", "0.2"], {}, "2 thresholds for 1 chip rules"),
    (["detect", "good.png", "--weights", "tiny", "--pixels", "0"], {}, "--pixels 0; want the side of a square"),
    (["detect", "good.png", "--weights", "tiny", "--pixels", "9"], {}, "even the highest thresholds cost"),
    (["detect", "good.png", "--weights", "tiny", "--pixels", "40", "--threshold", "0.5"], {}, "not both"),
    (["detect", "good.png", "--weights", "tiny", "--scales", "big"], {}, "--scales big; want shorter x longer"),
    (["detect", "good.png", "--weights", "tiny", "--scales", "32x48", "64x96", "96x128"], {}, "3 pairs of sides for 2"),
    (["detect", "good.png", "--weights", "tiny", "--scales", "64x48", "80x90"], {}, "want 0 < min_side <= max_side"),
    (["detect", "good.png", "--weights", "tiny", "--scales", "64x96", "32x48"], {}, "from coarse to fine"),
    (["detect", "good.png", "--weights", "tiny", "--write", "films"], {}, "--write"),
    (["detect", "good.png", "--weights", "tiny", "--colour", "red"], {}, "--colour"),
    (["detect", "good.png", "--weights", "tiny", "--names", "none.txt"], {}, "names none.txt cannot be read"),
    (["detect", "good.png", "--weights", "tiny", "--names", "n"], {"n": b"a\nb\n"}, "2 names of categories"),
    (["detect", "good.png", "--weights", "tiny", "--names", "n"], {"n": b"\n"}, "names n hold no name"),
    (["detect", "good.png", "--weights", "tiny", "--names", "n"], {"n": b'{"a": 1}'}, "hold no COCO categories"),
    (["detect", "good.png", "--weights", "tiny", "--names", "n"], {"n": PNG}, "names n cannot be read (no text)"),
    (["detect", "good.png", "--weights", "tiny", "--config", "none.py"], {}, "config file none.py does not exist"),
    (["detect", "good.png", "--weights", "tiny", "--config", "c.py"], {"c.py": b"x = ("}, "c.py, line 1"),
    (["detect", "good.png", "--weights", "tiny", "--output", "o"], {"o": b"x"}, "--output o is a file; give a folder"),
    # annotations, for both commands that read them
    *[
        ([command, *words], files, says)
        for command in ("suggest", "inspect")
        for words, files, says in [
            (["none.json"], {}, "annotations none.json do not exist; give a COCO file"),
            (["void"], {"void/": b""}, "folder void is no data set that is known"),
            (["a.json"], {"a.json": b""}, "a.json are not JSON"),
            (["a.json"], {"a.json": coco()[:-9]}, "a.json are not JSON"),
            (["a.json"], {"a.json": b"[]"}, "a.json hold a list"),
            (["a.json"], {"a.json": PNG}, "a.json are not JSON"),
            (["a.json"], {"a.json": coco(images=[], annotations=[])}, "annotations a.json hold no image"),
            (["a.json"], {"a.json": coco(images=None)}, "'images' is missing"),
            (["a.json"], {"a.json": coco(categories=[{"id": 1}])}, "categories[0] has no 'name'"),
            (["a.json"], {"a.json": coco(images=[one(), one()])}, "images has the id 1 more than once"),
            (["a.json"], {"a.json": coco(images=[one(height=0)])}, "has the size 60x0"),
            (["a.json"], {"a.json": coco(images=[one(width="60")])}, "want an integer"),
            (["a.json.gz"], {"a.json.gz": gzip.compress(coco())[:40]}, "are a damaged gzip file"),
            (["y"], {"y/data.yaml": b"names: [", "y/labels/": b""}, "data.yaml"),
            (["v"], {"v/Annotations/1.xml": b"<annotation>", "v/ImageSets/Main/train.txt": b"1\n"}, "1.xml"),
            (["c.py"], {"c.py": b"def get_config(): return 3"}, "returned int"),
        ]
    ],
    (["suggest", "a.json"], {"a.json": coco(images=[one(id=2)])}, "has image_id 1, which the file does not list"),
    (["suggest", "a.json"], {"a.json": box([1, 2, 3])}, "annotations[0] has bbox [1, 2, 3]"),
    (["suggest", "a.json"], {"a.json": box([1, 2, 3, "4"])}, "1 boxes that are not four finite numbers"),
    (["suggest", "a.json"], {"a.json": box([1, 2, float("nan"), 4])}, "1 boxes that are not four finite numbers"),
    (["suggest", "a.json"], {"a.json": box([0.1, 0.2, 0.3, 0.4])}, "1 boxes within 0 to 1, as shares"),
    (["suggest", "a.json"], {"a.json": box([10, 10, 0.9, 0.9])}, "the largest object has 0.9 px"),
    (["suggest", "a.json"], {"a.json": coco(annotations=[])}, "none of 1 images has an object"),
    (["suggest", "a.json", "--chip", "100"], {"a.json": coco()}, "chip of 100 px; want a multiple of 16"),
    (["suggest", "a.json", "--longest", "10"], {"a.json": coco()}, "smaller than a chip of 256"),
    (["suggest", "a.json", "--sample", "0"], {"a.json": coco()}, "--sample 0; want at least 1"),
    (["suggest", "a.json", "--output", "o"], {"a.json": coco(), "o": b"x"}, "o/"),
    # configs, for both programs; what else can be wrong there is in test_train.py and test_evaluate.py
    *[
        ([command, *words], files, says)
        for command in ("train", "evaluate")
        for words, files, says in [
            ([], {}, "--config"),
            (["--config", "none.py"], {}, "config file none.py does not exist"),
            (["--config", "c.py"], {"c.py": b"x = ("}, "c.py, line 1"),
            (["--config", "c.py"], {"c.py": b"def get_config(): return 3"}, "returned int"),
            (["--config", "c.py", "--seed", "x"], {"c.py": DEMO}, "--seed"),
            (["--config", "c.py", "--scales.0.min-side", "9999"], {"c.py": DEMO}, "min_side"),
        ]
    ],
    (["evaluate", "--config", "c.py", "--weights", "none"], {"c.py": DEMO}, "none does not exist"),
    (["inspect", "a.json", "--samples", "-1"], {"a.json": coco()}, "--samples"),
    (["inspect", "a.json", "--output", "o"], {"a.json": coco(), "o": b"x"}, "o/report.json cannot be written"),
]


def make(files):
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content() if callable(content) else content)


def test_at_least_sixty_kinds():
    assert len(FAILURES) + len(SKIPPED_IMAGES) + len(FINE_IMAGES) >= 60


@pytest.mark.parametrize(("words", "files", "says"), FAILURES, ids=[" ".join(words) for words, _, _ in FAILURES])
def test_one_line_that_names_it(autofocus, words, files, says):
    make({"good.png": PNG, **files})
    code, out, err = autofocus(*words)
    assert code == 1 and err.startswith(f"autofocus {words[0]}: ") and err.count("\n") == 1, (code, out, err)
    assert says in err
    if "could be processed" not in says:
        assert not list(Path("runs").rglob("*.json")) and "Traceback" not in out


def test_bad_images_are_skipped_and_odd_ones_are_not(autofocus):
    """All in one run, so that finished results beside bad files are shown to be kept."""
    make({f"in/{name}": content for name, content, _ in SKIPPED_IMAGES})
    make({f"in/{name}": content for name, content in [("good.png", PNG), *FINE_IMAGES]})
    code, out, err = autofocus("detect", "in", "--weights", "tiny", "--write", "pictures", "coco", "yolo")
    assert code == 0 and err == ""
    assert f"{len(SKIPPED_IMAGES)} failed and were skipped" in out
    lines = out.splitlines()
    for name, _, reason in SKIPPED_IMAGES:
        assert [line for line in lines if f"/{name} " in line and reason in line], (name, reason, out)
    content = json.loads(Path("runs/detect/detections.json").read_text())
    fine = {"good.png", *(name for name, _ in FINE_IMAGES)}
    assert {image["file_name"] for image in content["images"]} == fine
    for folder, suffix in (("pictures", ".jpg"), ("labels", ".txt")):
        made = {path.name for path in Path("runs/detect", folder).iterdir()} - {"classes.txt"}
        assert len(made) == len(fine) and all(name.endswith(suffix) for name in made)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_files_without_permission(autofocus):
    make({"in/good.png": PNG, "in/closed.png": PNG})
    os.chmod("in/closed.png", 0)
    code, out, _ = autofocus("detect", "in", "--weights", "tiny", "--write", "coco")
    assert code == 0 and "closed.png" in out and "1 failed and were skipped" in out
