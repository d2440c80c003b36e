"""From paths to items: folders, globs, names that do not collide, and what leads to nothing."""

import os
from pathlib import Path

import pytest

from autofocus_jax.command.inputs import InputError, collect
from autofocus_jax.data.image import SUFFIXES


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


def test_a_folder_gives_every_kind_that_the_decoder_knows_and_batch_the_same(tmp_path):
    for suffix in SUFFIXES:
        (tmp_path / f"a{suffix}").write_bytes(b"x")
    assert {".avif", ".pnm"} < set(SUFFIXES)
    found = {Path(item.file_name).suffix for item in collect([str(tmp_path)])}
    assert found == set(SUFFIXES)
    plan = pytest.importorskip("autofocus_jax.batch.plan", reason="wants pyarrow: pip install -e '.[test]'")
    (piece,) = plan.plan(str(tmp_path), 100).pieces
    assert {Path(name).suffix for name in piece.files} == found


def test_files_globs_and_what_comes_twice(tree):
    assert names(collect([str(tree / "notes.txt")])) == ["notes"]
    assert names(collect([f"{tree}/*.png"])) == ["a", "odd[1]"]
    assert names(collect([f"{tree}/**/*.tif"])) == ["b"]
    assert names(collect([str(tree / "odd[1].png")])) == ["odd[1]"]
    assert names(collect(["tree/a.jpg", "./tree/a.jpg", str(tree / "a.jpg")])) == ["a"]
    assert names(collect(["tree/a.jpg", "tree/sub/a.JPG", "tree/a.png"])) == ["a", "sub/a", "a_png"]
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
    ],
)
def test_what_leads_to_nothing(tree, given, says):
    with pytest.raises(InputError, match=says):
        collect(["tree", given])


def test_names_tell_folders_apart(tree):
    for folder, files in (("cam1", "1.jpg 2.jpg"), ("cam2", "1.jpg"), ("far/cam3", "1.jpg")):
        (tree.parent / folder).mkdir(parents=True)
        for name in files.split():
            (tree.parent / folder / name).write_bytes(b"x")
    wanted = ["cam1/1.jpg", "cam1/2.jpg", "cam2/1.jpg"]
    for given in (["cam1", "cam2"], ["cam*"], ["cam*/*.jpg"], ["cam1/../cam1", str(tree.parent / "cam2")]):
        assert [item.file_name for item in collect(given)] == wanted
    assert [item.file_name for item in collect(["cam2", "far/cam3"])] == ["cam2/1.jpg", "far/cam3/1.jpg"]
    assert [item.file_name for item in collect(["cam1"])] == ["1.jpg", "2.jpg"]


def test_links_to_folders_are_followed_once(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.jpg", "elsewhere/b.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    for link, target in (("photos/usb", "../elsewhere"), ("photos/loop", "."), ("photos/again", "../elsewhere"),
                         ("link", "photos"), ("photos/same.jpg", "a.jpg")):  # fmt: skip
        (tmp_path / link).symlink_to(target)
    items = collect(["photos"])
    assert [item.path.resolve().name for item in items] == ["b.jpg", "a.jpg"] or len(items) == 2
    assert {item.path.resolve() for item in items} == {tmp_path / "photos/a.jpg", tmp_path / "elsewhere/b.jpg"}
    assert len(caplog.records) == 2 and "looked at already" in caplog.text  # the loop, and one of two links
    assert len(collect(["photos", "photos/../photos", "./photos/a.jpg", "link"])) == 2


def test_pipes_and_names_that_are_no_text_are_items(tmp_path, monkeypatch):
    """What reads them says what is wrong, and the others are looked at."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(b"x")
    for given in (["."], ["*"], ["*.png", "*.jpg"]):
        assert sorted(item.file_name for item in collect(given)) == ["caf\\xe9.jpg", "device.png", "pipe.png"]
        assert all(item.name.isascii() and item.path.name in os.listdir() for item in collect(given))


def test_names_that_are_too_long_with_another_suffix_are_shortened(tmp_path):
    (tmp_path / ("b" * 250 + ".png")).write_bytes(b"")
    (tmp_path / ("b" * 249 + "c.png")).write_bytes(b"")
    one, two = collect([str(tmp_path)])
    assert one.name != two.name and {one.file_name, two.file_name} == {path.name for path in tmp_path.iterdir()}
    for item in (one, two):
        (tmp_path / f"{item.name}.partial.jpeg").write_bytes(b"")
