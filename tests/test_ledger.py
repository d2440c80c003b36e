"""A folder of results says what it depends on, refuses to mix, removes only its own, and serves one run at a time."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax import ledger
from autofocus_jax.files import WriteError
from autofocus_jax.ledger import LOCK, Ledger, LedgerError, data_identity, differences, digest, locked, weights_digest
from autofocus_jax.structures import ImageInfo

NUMBERS = st.integers(-5, 5) | st.floats(-5, 5).map(lambda number: number + 0.0)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=1), inner),
    max_leaves=6,
)
SETTINGS = st.dictionaries(st.text("abc", min_size=1, max_size=1), JSON, max_size=3)
NAMES = st.sampled_from(["1.npz", "2.npz", "mine.npz", "notes.txt", "row/1.npz", "row/9.npz", "own/1.npz", "a/b/1.npz"])
RESULTS = ("[0-9].npz", "row/[0-9].npz")


def made(folder, settings, **more):
    return Ledger(folder, settings, makes=RESULTS, **more)


def names(folder):
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {LOCK, "ledger.json"}


def put(folder, name, content="x"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


def test_results_are_gone_on_with_or_begun_anew(tmp_path):
    folder = tmp_path / "deep" / "results"
    with made(folder, {"split": "val"}).claim() as changed:
        assert changed == []
        put(folder, "1.npz")
        put(folder, "row/2.npz")
    with made(folder, {"split": "val"}).claim():
        assert names(folder) == {"1.npz", "row/2.npz"}
    says = r"results holds results of other settings or inputs \(split: val -> tune\); do X"
    with pytest.raises(LedgerError, match=says) as caught:
        made(folder, {"split": "tune"}, fix="do X").claim().__enter__()
    assert "\n" not in str(caught.value) and names(folder) == {"1.npz", "row/2.npz"}
    with made(folder, {"split": "tune"}).claim(anew=True):
        assert names(folder) == set()
    with made(folder, {"split": "tune"}).claim():
        pass
    assert made(folder, {"split": "val"}).changes() == ["split: tune -> val"]


@given(SETTINGS, SETTINGS)
def test_what_it_depends_on_comes_back_and_any_other_is_refused(tmp_path_factory, before, after):
    folder = tmp_path_factory.mktemp("results")
    with made(folder, before).claim():
        put(folder, "1.npz")
    with made(folder, json.loads(json.dumps(before))).claim():
        assert names(folder) == {"1.npz"}
    if before == after:
        made(folder, after).claim().__enter__()
        return
    with pytest.raises(LedgerError) as caught:
        made(folder, after).claim().__enter__()
    for key in {*before, *after}:
        if before.get(key, "nothing") != after.get(key, "nothing"):
            assert key in str(caught.value)
    assert names(folder) == {"1.npz"}
    with made(folder, after).claim(accept=True) as changed:
        assert changed == differences(before, after) and names(folder) == {"1.npz"}
    with made(folder, after).claim():
        pass


@given(st.sets(NAMES), st.booleans(), st.booleans())
def test_only_results_are_ever_removed(tmp_path_factory, others, claimed, same):
    """Files come into the folder before or after it is claimed; then it is claimed anew."""
    folder = tmp_path_factory.mktemp("results")
    if claimed:
        with made(folder, {"a": 1}).claim():
            pass
    for name in others:
        put(folder, name, name)
    before = names(folder)
    folders = {path for path in folder.rglob("*") if path.is_dir()}
    try:
        with made(folder, {"a": 1 if same else 2}).claim(anew=True):
            left = names(folder)
    except LedgerError as error:
        assert not claimed and others and "was not made by this version" in str(error) and names(folder) == before
        assert not (folder / LOCK).exists() and not (folder / "ledger.json").exists()
        return
    assert claimed or not others
    assert left == before - {"1.npz", "2.npz", "row/1.npz", "row/9.npz"}
    assert all((folder / name).read_text() == name for name in left) and all(path.is_dir() for path in folders)


def test_links_to_other_folders_are_not_followed(tmp_path):
    put(tmp_path / "mine", "1.npz")
    with made(tmp_path / "results", {}).claim():
        (tmp_path / "results" / "row").symlink_to(tmp_path / "mine")
    with made(tmp_path / "results", {}).claim(anew=True):
        assert (tmp_path / "mine" / "1.npz").exists()


def test_a_ledger_without_results_of_its_own_goes_into_any_folder(tmp_path):
    put(tmp_path, "notes.txt")
    with Ledger(tmp_path, {"a": 1}, note="config.json").claim(anew=True):
        pass
    assert json.loads((tmp_path / "config.json").read_text()) == {"a": 1, "ledger": 1}
    assert (tmp_path / "notes.txt").exists()


def test_drafts_of_killed_runs_go_and_those_of_others_stay(tmp_path):
    with made(tmp_path, {}).claim():
        for name in (".0123456789abcdef.partial.npz", "row/.0123456789abcdef.partial.npz", ".0.partial.npz"):
            put(tmp_path, name)
    for name in (".0123456789abcdef.partial.npz", "row/.0123456789abcdef.partial.npz"):
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    with made(tmp_path, {}).claim():
        assert names(tmp_path) == {".0.partial.npz"}


def test_folders_of_other_versions_are_one_line(tmp_path):
    (tmp_path / "ledger.json").write_text('{"a": 1}')
    with pytest.raises(LedgerError, match=r"made by an older version of this program; remove the folder, or do X"):
        made(tmp_path, {"a": 1}, fix="do X").claim(anew=True).__enter__()
    with Ledger(tmp_path, {"a": 1, "b": 2}, upgrade=lambda old: {"b": 2, **old}).claim() as changed:
        assert changed == []
    assert json.loads((tmp_path / "ledger.json").read_text()) == {"a": 1, "b": 2, "ledger": 1}
    (tmp_path / "ledger.json").write_text('{"a": 1, "ledger": 2}')
    with pytest.raises(LedgerError, match="made by another version of this program; update it, or"):
        made(tmp_path, {"a": 1}).claim().__enter__()


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\x00"])
def test_a_damaged_note_is_one_line(tmp_path, content):
    (tmp_path / "ledger.json").write_text(content)
    with pytest.raises(LedgerError, match=r"ledger.json is damaged .*put it back, or") as caught:
        made(tmp_path, {}).claim(anew=True).__enter__()
    assert "\n" not in str(caught.value) and (tmp_path / "ledger.json").read_text() == content


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file/results cannot be made"):
        made(tmp_path / "file" / "results", {}).claim().__enter__()


HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom autofocus_jax.ledger import Ledger\n"
    "with Ledger(Path(sys.argv[1]), {'a': 1}, makes=('[0-9].npz',)).claim():\n"
    "    print('held', flush=True)\n    time.sleep(600)\n"
)


def test_two_runs_of_one_folder_and_one_that_died(tmp_path):
    """The second one is refused and removes nothing; a lock does not outlive a process that is killed."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            put(tmp_path, "1.npz")
            says = rf"is in use by process {other.pid} on .*; wait for its end"
            with pytest.raises(LedgerError, match=says) as caught:
                made(tmp_path, {"a": 1}).claim(anew=True).__enter__()
            assert "\n" not in str(caught.value) and names(tmp_path) == {"1.npz"}
        finally:
            other.kill()
    with made(tmp_path, {"a": 1}).claim():
        assert names(tmp_path) == {"1.npz"}


def test_one_process_cannot_hold_a_folder_twice(tmp_path):
    with locked(tmp_path), pytest.raises(LedgerError, match="in use"), locked(tmp_path):
        pass
    with pytest.raises(ValueError, match="stop"), locked(tmp_path):
        raise ValueError("stop")
    with locked(tmp_path):  # an error let go of it
        pass


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(ledger.fcntl, "flock", none)
    with pytest.warns(UserWarning, match="cannot be locked .*let no other run use it"), made(tmp_path, {}).claim():
        put(tmp_path, "1.npz")
    assert names(tmp_path) == {"1.npz"}


def test_differences_name_the_setting_and_both_values():
    before = {"a": {"b": [1, 2], "c": 3}, "scales": [{"side": 5}, {"side": 6}]}
    after = {"a": {"b": [1, 3], "d": None}, "scales": [{"side": 5.0}, {"side": 7}]}
    assert differences(before, after) == [
        "a.b: [1, 2] -> [1, 3]", "a.c: 3 -> nothing", "a.d: nothing -> None", "scales.1.side: 6 -> 7",
    ]  # fmt: skip


@given(JSON, JSON)
def test_digests_tell_contents_apart(one, other):
    assert digest(one) == digest(json.loads(json.dumps(one)))
    assert (digest(one) == digest(other)) == (exactly(one) == exactly(other))


def exactly(value):
    """Equal where Python's values are, but that True is not 1."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    return [exactly(item) for item in value] if isinstance(value, list) else (isinstance(value, bool), value)


def test_weights_are_their_arrays():
    arrays = {"params": {"b": np.arange(4, dtype=np.float32), "a": np.zeros((2, 2), np.float32)}}
    first = weights_digest(arrays)
    assert first == weights_digest({"params": {name: arrays["params"][name].copy() for name in ("a", "b")}})
    others = [
        {"params": {**arrays["params"], "b": np.arange(1, 5, dtype=np.float32)}},
        {"params": {**arrays["params"], "b": np.arange(4, dtype=np.float64)}},
        {"params": {**arrays["params"], "a": np.zeros(4, np.float32)}},
        {"params": {"c": arrays["params"]["b"], "a": arrays["params"]["a"]}},
        {"batch_stats": arrays["params"]},
    ]
    assert len({first, *map(weights_digest, others)}) == 6
    assert weights_digest({"a": {"b": np.ones(1)}}) != weights_digest({"a": {}, "b": np.ones(1)})


class Listed:
    """A data set of given names, sizes and boxes."""

    categories = ("cat", "dog")

    def __init__(self, infos, truths=None, files=()):
        self.infos, self.truths, self.files = infos, truths, files

    def __len__(self):
        return len(self.infos)

    def info(self, index):
        return self.infos[index]

    def ground_truth(self, index):
        return self.truths[index]


def test_images_are_their_names_sizes_and_order(tmp_path, truth):
    infos = [ImageInfo(1, "a.png", 10, 20), ImageInfo(2, "b.png", 10, 20)]
    first = data_identity(Listed(infos))
    assert first["images"] == 2 and first == data_identity(Listed([info._replace(image_id=9) for info in infos]))
    for others in ([infos[1], infos[0]], infos[:1], [infos[0], infos[1]._replace(file_name="c.png")],
                   [infos[0], infos[1]._replace(width=21)]):  # fmt: skip
        assert data_identity(Listed(others)) != first
    assert data_identity(Listed(infos), [0]) == data_identity(Listed(infos[:1]))

    files = [tmp_path / "a.png", tmp_path / "b.png"]
    files[0].write_text("x")
    counted = data_identity(Listed(infos, files=files), contents=True)
    assert counted != first and counted == data_identity(Listed(infos, files=files), contents=True)
    files[0].write_text("xy")
    assert counted != data_identity(Listed(infos, files=files), contents=True)
    assert first == data_identity(Listed(infos, files=files))

    content = bytearray(100_000)
    for place in (0, 50_000, 99_999):
        files[0].write_bytes(content)
        sampled = data_identity(Listed(infos, files=files), contents=True)
        content[place] = 1
        files[0].write_bytes(content)
        (line,) = differences(sampled, data_identity(Listed(infos, files=files), contents=True))
        assert line.startswith("samples: ")

    truths = [truth([[1, 2, 3, 4]], [0]), truth()]
    boxes = data_identity(Listed(infos, truths), boxes=True)
    assert boxes["categories"] == ["cat", "dog"] and boxes == data_identity(Listed(infos, list(truths)), boxes=True)
    for changed in ([truth([[1, 2, 3, 5]], [0]), truth()], [truth([[1, 2, 3, 4]], [1]), truth()],
                    [truth([[1, 2, 3, 4]], [0], [True]), truth()], [truth(), truth([[1, 2, 3, 4]], [0])]):  # fmt: skip
        (line,) = differences(boxes, data_identity(Listed(infos, changed), boxes=True))
        assert line.startswith("boxes: ")
