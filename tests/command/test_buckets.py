"""The command that chooses buckets: what it prints, from each source of chips, and what it says of bad input."""

import gzip
import json
import re
import runpy

import numpy as np
import pytest

from autofocus_jax.command.buckets import oracle_sizes, read_chips, snippet
from autofocus_jax.command.console import Screen
from autofocus_jax.command.main import main
from autofocus_jax.config.load import load_config
from autofocus_jax.data.coco import CocoDataset, write_coco
from autofocus_jax.focus.buckets import choose
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import Bucket, GroundTruth, ImageInfo

CONFIG = "configs/demo.py"


@pytest.fixture
def annotations(tmp_path):
    """Twelve images of several sizes with objects of several sizes; their pixels do not exist."""
    generator = np.random.default_rng(4)
    infos, truths = [], []
    for number in range(12):
        height, width = (int(side) for side in generator.integers(300, 900, 2))
        centre = generator.uniform(0.1, 0.9, (3, 2)) * [width, height]
        half = np.exp(generator.uniform(np.log(5), np.log(60), (3, 1)))
        boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
        infos.append(ImageInfo(number, f"{number}.jpg", height, width))
        truths.append(GroundTruth(boxes, np.zeros(3, np.int32), np.zeros(3, bool)))
    path = tmp_path / "instances.json"
    write_coco(path, infos, ["thing"], truths)
    return path


def printed(capsys, *words):
    code = main(["buckets", "--config", CONFIG, *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def buckets_in(text, tmp_path):
    """The buckets of the printed lines, read as Python."""
    path = tmp_path / "printed.py"
    path.write_text(text[text.index("BUCKETS = (") :])
    return [Bucket(*row) for row in runpy.run_path(str(path))["BUCKETS"]]


def test_prints_buckets_that_hold_every_chip_and_the_padding_they_cost(annotations, tmp_path, capsys):
    code, out, err = printed(capsys, "--annotations", annotations, "--count", 8)
    assert code == 0 and err == ""
    buckets = buckets_in(out, tmp_path)
    assert 3 <= len(buckets) <= 8 and Bucket(960, 1280, 1) in buckets and Bucket(1280, 960, 1) in buckets
    config, dataset = load_config(CONFIG), CocoDataset(tmp_path, annotations)
    own, before, after = np.zeros((3, 2))  # of chips and of whole levels
    plan = Plan(config.scales)
    for index in range(len(dataset)):
        info = dataset.info(index)
        truth = dataset.ground_truth(index)
        of_image = (info.height, info.width), truth
        for kind, of in enumerate((plan, plan.pyramid())):
            stages = oracle_chips(*of_image, of, config.focus_range)
            for height, width in np.concatenate([stage.sizes for stage in stages]):
                own[kind] += height * width
                old, new = (group[choose(height, width, group)] for group in (config.buckets, buckets))
                before[kind] += old.height * old.width
                after[kind] += new.height * new.width
    for text, padded in ((f"before: {len(config.buckets)}", before), (f"after: {len(buckets)}", after)):
        chips, levels = 100 * (padded / own - 1)
        assert f"{text} buckets, padding adds {chips:.2f}% pixels to the chips, {levels:.2f}% to whole levels" in out
    assert re.search(r"chosen for the chips: [\d.]+% added \(sides multiples of 16 px", out)
    assert all(bucket.batch == 960 * 1280 // (bucket.height * bucket.width) for bucket in buckets)


def levels_padding(out):
    return float(re.search(r"after: .* ([\d.]+)% to whole levels", out)[1])


def test_choosing_for_whole_levels_too_pads_them_less(annotations, capsys):
    _, chips, _ = printed(capsys, "--annotations", annotations, "--count", 6)
    _, both, _ = printed(capsys, "--annotations", annotations, "--count", 6, "--levels")
    assert levels_padding(both) < levels_padding(chips) and "chosen for chips and levels" in both


def test_gzip_says_the_same(annotations, tmp_path, capsys):
    plain = printed(capsys, "--annotations", annotations, "--count", 4)
    packed = tmp_path / "instances.json.gz"
    packed.write_bytes(gzip.compress(annotations.read_bytes()))
    assert printed(capsys, "--annotations", packed, "--count", 4) == plain


def test_a_recorded_run_with_the_same_chips_says_the_same(annotations, tmp_path, capsys):
    known = oracle_sizes(load_config(CONFIG), CocoDataset(tmp_path, annotations), Screen(quiet=True))
    rows, levels = (np.concatenate([part.sizes, part.counts[:, None]], axis=1).tolist() for part in known)
    path = tmp_path / "chips.json"
    path.write_text(json.dumps({"chips": [*rows[1:], rows[0]], "levels": levels[::-1], "config": "demo"}))
    for recorded, part in zip(read_chips(path), known):
        np.testing.assert_array_equal(recorded.sizes, part.sizes)
        np.testing.assert_array_equal(recorded.counts, part.counts)
    for words in ([], ["--levels"]):
        words = [*words, "--count", 6, "--batch-pixels", 3_000_000]
        _, out, _ = printed(capsys, "--chips", path, *words)
        _, other, _ = printed(capsys, "--annotations", annotations, *words)
        assert other.count(" to whole levels") == 2 and out[out.index("before:") :] == other[other.index("before:") :]
        assert Bucket(960, 1280, 2) in buckets_in(out, tmp_path)


def test_a_recorded_run_need_not_know_whole_levels(tmp_path, capsys):
    path = tmp_path / "chips.json"
    path.write_text(json.dumps({"chips": [[200, 100, 9]]}))
    assert read_chips(path)[1] is None
    code, out, _ = printed(capsys, "--chips", path, "--count", 6)
    assert code == 0 and "levels" not in out.replace("the largest levels included", "")


def test_buckets_of_the_config_that_hold_too_little_are_named(tmp_path, capsys):
    path = tmp_path / "chips.json"
    path.write_text(json.dumps({"chips": [[1000, 1400, 3], [200, 100, 9]]}))
    words = ["--scales.2.min-side", 1100, "--scales.2.max-side", 1600]
    code, out, _ = printed(capsys, "--chips", path, "--count", 4, *words)
    assert code == 0 and f"before: {len(load_config(CONFIG).buckets)} buckets, chip 1000x1400 px fits no bucket" in out
    assert {Bucket(1008, 1408, 1), Bucket(1104, 1600, 1)} <= set(buckets_in(out, tmp_path))  # one chip at least


def test_the_snippet_is_short_lines_of_python(tmp_path):
    buckets = [Bucket(16 * n, 1600, 100 + n) for n in range(1, 40)]
    text = snippet(buckets)
    assert buckets_in(text, tmp_path) == buckets and max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    "content, message",
    [
        ("[", r"are not JSON"),
        ("[]", r'has no list "chips"'),
        ('{"chips": 3}', r'has no list "chips"'),
        ('{"chips": [[1, 2, 3], [1, 2]]}', r"chips\[1\] is \[1, 2\]"),
        ('{"chips": [[1, 0, 3]]}', r"chips\[0\] is \[1, 0, 3\]"),
        ('{"chips": [[1, true, 3]]}', r"chips\[0\] is \[1, True, 3\]"),
        ('{"chips": []}', r"no chip"),
        ('{"chips": [[5000, 20, 1]]}', r"larger than every level"),
        ('{"chips": [[1, 2, 3]], "levels": 3}', r'has no list "levels"'),
        ('{"chips": [[1, 2, 3]], "levels": [[1, 2]]}', r"levels\[0\] is \[1, 2\]"),
    ],
)
def test_bad_chips_are_one_line(content, message, tmp_path, capsys):
    path = tmp_path / "chips.json"
    path.write_text(content)
    code, _, err = printed(capsys, "--chips", path)
    assert code == 1 and err.count("\n") == 1 and re.search(message, err)


def test_bad_options_are_one_line(annotations, tmp_path, capsys):
    recorded = tmp_path / "chips.json"
    recorded.write_text('{"chips": [[16, 16, 1]]}')
    cases = [
        ((), "got none of them"),
        (("--chips", recorded, "--levels"), '--levels wants "levels" in '),
        (("--annotations", annotations, "--chips", annotations), "got --annotations and --chips"),
        (("--annotations", annotations, "--count", 0), "--count 0"),
        (("--annotations", annotations, "--count", 1), "cannot hold the largest levels 960x1280 and 1280x960"),
        (("--annotations", annotations, "--batch-pixels", 0), "--batch-pixels 0"),
        (("--annotations", tmp_path / "none.json"), "cannot be read"),
        (("--chips", tmp_path / "none.json"), "cannot be read"),
    ]
    for words, message in cases:
        code, _, err = printed(capsys, *words)
        assert code == 1 and err.startswith("autofocus buckets: ") and message in err and err.count("\n") == 1


def test_a_split_of_the_configs_own_data(annotations, tmp_path, capsys):
    config = tmp_path / "own.py"
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "annotations" / "instances_tune.json").write_bytes(annotations.read_bytes())
    config.write_text(
        "import dataclasses, runpy\n"
        "from autofocus_jax.data.coco import CocoSource\n"
        "def get_config():\n"
        f"    demo = runpy.run_path({CONFIG!r})['get_config']()\n"
        "    detector = dataclasses.replace(demo.detector, num_classes=1)\n"
        f"    return dataclasses.replace(demo, data=CocoSource({str(tmp_path / 'data')!r}), detector=detector)\n"
    )
    assert main(["buckets", "--config", str(config), "--split", "tune", "--count", "4"]) == 0
    out, _ = capsys.readouterr()
    _, other, _ = printed(capsys, "--annotations", annotations, "--count", 4)
    assert out == other
