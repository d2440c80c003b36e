"""From paths to items: folders, globs, names that do not collide, and what leads to nothing."""

import os

import pytest

from autofocus_jax.command.inputs import InputError, collect


@pytest.fixture
def tree(tmp_path, monkeypatch):
    names = "a.jpg a.png sub/a.JPG sub/clip.mp4 sub/deep/b.tif .hidden/c.jpg .d.jpg notes.txt odd[1].png sub/._e.jpg"
    for name in names.split():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


def names(items):
    return [item.name for item in items]


def test_a_folder_with_all_below_it(tree):
    items = collect([str(tree)])
    assert [item.file_name for item in items] == ["a.jpg", "a.png", "odd[1].png", "sub/a.JPG", "sub/clip.mp4",
                                                  "sub/deep/b.tif"]  # fmt: skip
    assert names(items) == ["a", "a_png", "odd[1]", "sub/a", "sub/clip", "sub/deep/b"]
    assert [item.video for item in items] == [False] * 4 + [True, False]
    assert all(item.path.is_file() for item in items)


def test_files_globs_and_what_comes_twice(tree):
    assert names(collect([str(tree / "notes.txt")])) == ["notes"]
    assert names(collect([f"{tree}/*.png"])) == ["a", "odd[1]"]
    assert names(collect([f"{tree}/**/*.tif"])) == ["b"]
    assert names(collect([str(tree / "odd[1].png")])) == ["odd[1]"]
    assert names(collect(["tree/a.jpg", "./tree/a.jpg", str(tree / "a.jpg")])) == ["a"]
    assert names(collect(["tree/a.jpg", "tree/sub/a.JPG", "tree/a.png"])) == ["a", "a_JPG", "a_png"]
    assert names(collect(["tree/su*"])) == ["sub/a", "sub/clip", "sub/deep/b"]
    first, second = collect(["tree/a.jpg", "tree/sub/a.JPG"])
    assert first.name != second.name and collect(["tree"]) == collect(["tree"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "an empty PATH"),
        ("nowhere.jpg", "nowhere.jpg does not exist"),
        ("empty", "folder empty holds no image and no video"),
        ("tree/*.gif", r"no file matches tree/\*\.gif"),
        ("pipe", "pipe is neither a file nor a folder"),
    ],
)
def test_what_leads_to_nothing(tree, given, says):
    os.mkfifo("pipe")
    with pytest.raises(InputError, match=says):
        collect(["tree", given])
