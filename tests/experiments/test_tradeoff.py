"""The trade-off with the oracle on drawn scenes, where what every rule costs and finds is plain."""

import numpy as np
import pytest

from autofocus_jax.config.load import load_config
from autofocus_jax.experiments import detector, figure, tradeoff
from autofocus_jax.experiments.result import silent
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.planning.rule_search import Point
from autofocus_jax.structures import ChipRule


@pytest.fixture(params=["coco", "voc"])
def metric(request):
    return request.param


@pytest.fixture
def made(metric, tmp_path, monkeypatch, tiny_config_file, memory_dataset, truth):
    """The experiment's Result on two images of 64x128 px with one small and one large object each.

    Level 1 is the image; the small object lies in one of its cells, so a rule (t, 1, 16) or (t, 1, 32) gives one chip
    of that side, which is twice as large at level 2. The large object is scale 1's own.
    """
    objects = truth([[52, 36, 60, 44], [70, 5, 120, 60]], [0, 0])
    images = [np.zeros((64, 128, 3), np.uint8)] * 2
    dataset = memory_dataset(images, [objects, objects], categories=("a",))
    config = load_config(tiny_config_file, ["--stacking.border-tolerance", "0.5", "--metric", metric])
    detect = oracle_detect([objects] * 2, config.focus_range, 1)
    splits = []
    monkeypatch.setattr(tradeoff, "open_images", lambda inputs, _: splits.append(inputs.split) or dataset)
    monkeypatch.setattr(tradeoff, "load_detector", lambda *_: detector.Trained(detect, "oracle"))
    arguments = tradeoff.Arguments(
        config=tiny_config_file, output=str(tmp_path), thresholds=(0.5, 2.0), dilations=(1,), min_sizes=(16, 32),
        savings=(1.5, 3.0, 100.0),
    )  # fmt: skip
    result = tradeoff.run(arguments, config, silent)
    monkeypatch.setattr(tradeoff, "load_detector", lambda *_: detector.Trained(never, "oracle"))
    again = tradeoff.run(arguments, config, silent)  # everything was kept: what is interrupted goes on
    assert again.rows == result.rows and again.summary == result.summary
    return result, splits[:2]


def never(chips, placements):
    raise AssertionError("the detector ran")


@pytest.mark.parametrize("setting", ["shrink", "boxes", "images"])
def test_points_of_other_settings_or_data_are_not_taken(
    made, metric, setting, tmp_path, monkeypatch, tiny_config_file, memory_dataset, truth
):
    """The folder's kept levels are of other settings too, so these are looked for in another split's folder."""
    objects = truth([[52, 36, 60, 44], [70, 5, 120, 60]], [0, 0])
    images = [np.zeros((64, 128, 3), np.uint8)] * 2
    dataset = memory_dataset(images, [objects, truth() if setting == "boxes" else objects], categories=("a",))
    if setting == "images":
        dataset = memory_dataset([np.zeros((64, 112, 3), np.uint8), images[1]], dataset.truths, categories=("a",))
    ran = []

    def detect(chips, placements):
        ran.append(len(placements))
        return oracle_detect(dataset.truths, config.focus_range, 1)(chips, placements)

    more = ["--shrink", "0.1"] if setting == "shrink" else []
    config = load_config(tiny_config_file, ["--stacking.border-tolerance", "0.5", "--metric", metric, *more])
    monkeypatch.setattr(tradeoff, "open_images", lambda *_: dataset)
    monkeypatch.setattr(tradeoff, "load_detector", lambda *_: detector.Trained(detect, "oracle"))
    arguments = tradeoff.Arguments(
        config=tiny_config_file, output=str(tmp_path), thresholds=(0.5, 2.0), dilations=(1,), min_sizes=(16, 32),
        savings=(1.5, 3.0, 100.0), search_split="other",
    )  # fmt: skip
    before = {path.parent.name for path in tmp_path.glob("points/*/points.json")}
    tradeoff.run(arguments, config, silent)
    after = {path.parent.name for path in tmp_path.glob("points/*/points.json")}
    assert ran and len(after - before) == len(before)


def test_known_answer(made, metric, tmp_path):
    result, splits = made
    first, second = {"coco": ("AP", "AP50"), "voc": ("AP50", "AP70")}[metric]
    assert splits == ["tune", "val"]
    level1, level2 = 64 * 128, 128 * 256
    pyramid, auto, lower = result.rows
    assert (pyramid["what"], pyramid["pixels"], pyramid["saving"]) == ("pyramid", level1 + level2, 1)
    assert pyramid[first] == pytest.approx(100)
    # The chip of 16 px finds as much as that of 32 and costs less; it serves every budget but the last.
    assert (auto["what"], auto["rules (t, d, k)"]) == ("AutoFocus", "(0.5, 1, 16)")
    assert auto["pixels"] == level1 + 32**2
    for key in (first, second, f"search {first}", f"replayed {first}"):
        assert auto[key] == pytest.approx(100)
    # Scale 1 alone answers for every size, and the oracle finds all there.
    assert (lower["what"], lower["pixels"]) == ("scale 1", level1)
    assert lower[first] == pytest.approx(100)
    assert [point["pixels"] for point in result.summary["tried"]] == [
        level1 + level2, level1 + 32**2, level1 + 64**2, level1, level1,
    ]  # fmt: skip
    assert result.summary["tried"][-1][first] == pytest.approx(50, abs=5)  # the threshold of 2 finds no small object
    assert result.summary["summary"]["largest saving before AP falls 0.3"] == pytest.approx(
        pyramid["pixels"] / auto["pixels"]
    )
    assert len(figure.save(result.draw, tmp_path / "tradeoff")) == 2


def test_summary():
    pyramid = Point((None,), 50.0, 70.0, 100.0)
    curve = [
        Point((ChipRule(t, 1, 16),), ap, 0, pixels) for t, ap, pixels in ((1, 49.8, 40), (2, 49.6, 22), (3, 48, 20))
    ]
    found = tradeoff.summary(curve, pyramid)
    assert found["largest saving before AP falls 0.3"] == 2.5
    assert found["AP lost at 5 times fewer"] == 2
    better_again = [*curve, Point((ChipRule(4, 1, 16),), 49.9, 0, 10.0)]
    assert tradeoff.summary(better_again, pyramid)["largest saving before AP falls 0.3"] == 2.5  # not after a fall
    assert tradeoff.summary(curve[:2], pyramid)["AP lost at 5 times fewer"] is None
