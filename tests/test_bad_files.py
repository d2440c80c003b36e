"""A table of bad files: every reader (tests/readers.py) with every damage, and how each ends.

An end is a pattern: of the one line of an AutoFocusError, of what was counted, or of the reasons of a batch's rows.
READS says that nothing is wrong, as an empty file of labels is an image without objects.
"""

import os
import re

import numpy as np
import pytest

from autofocus_jax.structures import AutoFocusError
from tests.readers import IMAGES, PNG, readers

CONTENTS = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(3000),
    "text": lambda content: b"no such file\n" * 50,
    "page": lambda content: b"<html><body>404</body></html>",
    "picture": lambda content: PNG,
    "half": lambda content: content[: len(content) // 2],
    "head": lambda content: content[:20],
    "noise": lambda content: np.random.default_rng(3).bytes(2000),
    "scattered": lambda content: bytes(255 - byte if at % 41 == 40 else byte for at, byte in enumerate(content)),
}
PLACES = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
}


READS = "reads"
AT = {
    "missing": "No such file", "folder": "[Ii]s a (folder|directory)", "pipe": "is no regular file",
    "device": "is no regular file", "loop": "symbolic links",
}  # fmt: skip


def all_of(names, pattern):
    return dict.fromkeys(names.split(), pattern)


def without(ends, name):
    return {key: value for key, value in ends.items() if key != name}


CUT = r"is cut off|is damaged or of a rare kind|is damaged: zeros"
PICTURE = {"empty": "is empty", "picture": READS, **all_of("zeros text page noise", "it is no image file"),
           **all_of("half head scattered", CUT), **AT}  # fmt: skip
UNREADABLE = {**all_of(" ".join([*CONTENTS, *PLACES]), "'image files that cannot be read': 1"), "picture": READS,
              "missing": "'image files that are missing': 1"}  # fmt: skip
NOT_TEXT = all_of("picture noise", "is no text in UTF-8")
JSON = {**all_of("empty zeros text page picture half head noise scattered", "(are|is) not JSON"), **AT}
BAD_FILE = all_of(" ".join([*CONTENTS, *PLACES]), "'files of annotations that cannot be read': 1")
NO_NAMES = "names no classes"
UNKNOWN = "'boxes of an unknown category': 1"
NOT_FINITE = "'boxes that are not four finite numbers': (1|50)"
NAMES = {"empty": "hold no name", **all_of("zeros text page", "counted: Names"), **AT,
         **all_of("picture noise", r"cannot be read \(no text\)")}  # fmt: skip
WEIGHTS = all_of("empty zeros text page picture half head noise scattered", "are damaged or")
ARCHIVE = {**all_of("empty zeros text page picture half head noise scattered", "damaged, or no archive of NumPy"), **AT}
ENDED = all_of("empty zeros text page picture half head noise scattered", "ends after [0-2] images")
NO_INPUT = all_of(" ".join(PLACES), "holds no images, Parquet files or tar shards")
NO_FOLDER = AT | {"folder": "has no file for 1 of 1 images"}
AREA = {**all_of("empty zeros text page picture half head noise scattered", "cannot be understood"), **NO_FOLDER}
LISTED = all_of("zeros text page half", "has a file of labels")

ENDS = {
    **{f"picture .{suffix}": PICTURE for suffix in IMAGES},
    "picture .bmp": PICTURE | {"scattered": READS},  # every value is a colour
    "picture .ppm": PICTURE | {"scattered": READS},
    "COCO": JSON,
    "COCO, packed": JSON | all_of("half head scattered", "are a damaged gzip file"),
    "COCO's picture": UNREADABLE | {"picture": "'categories without an object': 1"},
    "VOC": BAD_FILE,
    "VOC's list": {"empty": "'categories without an object'", **NOT_TEXT, **AT, **all_of("half head scattered", READS),
                   **all_of("zeros text page", "'files of annotations that cannot be read': 1")},
    "VOC's labels": {**all_of("empty half missing", READS), **all_of("zeros text page", UNKNOWN), **NOT_TEXT,
                     **all_of("head scattered", "'categories without an object': 1"), **without(AT, "missing")},
    "VOC's picture": UNREADABLE,
    "YOLO's labels": BAD_FILE | all_of("zeros text page head", NOT_FINITE)
                     | all_of("empty half", "'categories without an object'")
                     | {"scattered": READS, "missing": "not one of the 1 images of 'train' has a file of labels"},
    "YOLO's data.yaml": {**all_of("empty text page", "holds a (NoneType|str); want names"),
                         **all_of("zeros picture noise scattered", "is not YAML"), "half": NO_NAMES, "head": NO_NAMES,
                         **AT, "missing": NO_NAMES},
    "YOLO's picture": UNREADABLE | all_of("missing", "'annotations of an image that is not there': 1")
                      | {"folder": "cannot be read|not there"},
    "YOLO's classes": {"empty": NO_NAMES, **all_of("zeros page half", UNKNOWN), **NOT_TEXT, **AT, "missing": NO_NAMES,
                       "text": "'names that several categories have': 1",
                       **all_of("head scattered", "'categories without an object': 1")},
    "YOLO's list": {"empty": "'categories without an object': 2", **LISTED, **NOT_TEXT, **AT,
                    **all_of("head scattered", READS), "folder": "'categories without an object': 2"},
    "names, lines": NAMES | all_of("half head scattered", "counted: Names"),
    "names, COCO": NAMES | all_of("half head", "hold no COCO categories") | {"scattered": r"\(no text\)"},
    "weights": WEIGHTS | all_of(" ".join(PLACES), "do not exist"),
    "weights of others": WEIGHTS | AT,
    "PyTorch's weights": {**all_of("empty zeros text page picture half head noise scattered",
                                   "cannot be read as PyTorch's"), **AT},
    "MXNet's weights": {**all_of("zeros text page picture noise", "are no list of MXNet arrays"), **AT,
                        **all_of("empty half head scattered", "are truncated or damaged")},
    "a training's config": {**all_of("empty zeros text page picture half head noise scattered", "is damaged"),
                            **all_of(" ".join(PLACES), READS)},  # a folder that does not say
    "a plan": JSON,
    "an area, area.json": AREA | {"scattered": READS},
    "an area, area.geojson": AREA,
    "an area, area.npy": {**all_of("empty zeros text page picture half head noise scattered", "is no array of numbers"),
                          **NO_FOLDER},
    "an area, area.png": PICTURE | NO_FOLDER,
    "chips": JSON | {"scattered": "counted: "},
    "proposals": ARCHIVE | {"missing": "do not exist; run the stage of the proposals first"},
    "a piece": ARCHIVE,
    "a video": {**all_of("zeros text page half head noise scattered", "cannot be decoded"), "picture": READS,
                **all_of(" ".join(["empty", *PLACES]), "is missing or empty")},
    "a raster": PICTURE | {"picture": "cannot be read by windows", "half": "cannot be read by windows",
                           "scattered": "of an unknown format"},
    "a shard": ENDED | NO_INPUT,
    "a packed shard": ENDED | NO_INPUT,
    "a Parquet file": NO_INPUT | all_of("empty zeros text page picture half head noise scattered",
                                        "cannot be read from row 0 on"),
}  # fmt: skip


def end(reader, folder):
    """What a reader says about a folder."""
    try:
        said = reader.read(folder)
    except AutoFocusError as error:
        assert "\n" not in str(error)
        return f"{type(error).__name__}: {error}"
    return f"counted: {said}" if said else "reads"


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("scratch"))


def test_the_table_is_whole(known):
    assert ENDS.keys() == known.keys()
    assert all(ends.keys() == {*CONTENTS, *PLACES} for ends in ENDS.values())
    assert sum(map(len, ENDS.values())) >= 250


@pytest.mark.parametrize("damage", [*CONTENTS, *PLACES])
@pytest.mark.parametrize("name", ENDS)
def test_ends_as_decided(name, damage, known, tmp_path, caplog):
    reader = known[name]
    reader.put(tmp_path / "in", CONTENTS[damage](reader.seeds[0]) if damage in CONTENTS else b"")
    if damage in PLACES:
        path = tmp_path / "in" / reader.target
        path.unlink()
        PLACES[damage](path)
    said = end(reader, tmp_path / "in")
    assert said == READS if ENDS[name][damage] == READS else re.search(ENDS[name][damage], said), said
