"""The search for chip rules on a case whose answer is known: one small object, found by the oracle at scale 2 only."""

import dataclasses

import numpy as np
import pytest

from autofocus_jax.command.main import main
from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig, StackingConfig, TrainingConfig
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.experiments import chip_rules
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.structures import AutoFocusError, Bucket, ChipRule, FocusRange, Scale, ValidRange


@pytest.fixture
def config():
    return Config(
        name="two-scales",
        data=CocoSource(root="unused"),
        scales=(
            Scale(64, 64, ValidRange(30, 1000), ChipRule(0.5, 1, 16)),
            Scale(128, 128, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(2, 32, 40),
        buckets=(Bucket(128, 128, 1),),
        detector=DetectorConfig(num_classes=1, backbone=BackboneConfig(), anchors=AnchorConfig()),
        training=TrainingConfig(steps=1, batch=1, ranges=(ValidRange(0, 1000), ValidRange(0, 1000))),
        stacking=StackingConfig(border_tolerance=0.5),
    )


def test_cheapest_rule_that_keeps_the_object_is_chosen(config, memory_dataset, truth):
    truths = [truth([[52, 50, 62, 60]], [0])]  # inside one 16 px cell of the first level, which is the image itself
    dataset = memory_dataset([np.zeros((64, 64, 3), np.uint8)], truths, categories=("a",))
    detect = oracle_detect(truths, config.focus_range, 1)
    seen = []
    rules = [ChipRule(0.5, 3, 16), ChipRule(0.5, 1, 16), ChipRule(2.0, 1, 16), ChipRule(0.5, 1, 64)]
    chosen = chip_rules.search(config, detect, dataset, [rules], 0.5, seen.append)

    assert chosen == [ChipRule(0.5, 1, 16)]  # 32 level px of scale 2; the threshold of 2 finds nothing and is refused
    assert [candidate.rule for candidate in seen] == [None, *rules]
    pixels = [candidate.pixels for candidate in seen]
    assert pixels == [64**2 + 128**2, 64**2 + 64**2, 64**2 + 32**2, 64**2, 64**2 + 128**2]
    assert [candidate.ap > 99 for candidate in seen] == [True, True, True, False, True]


def test_without_a_good_rule_the_best_is_taken(config, memory_dataset, truth):
    truths = [truth([[52, 50, 62, 60]], [0])]
    dataset = memory_dataset([np.zeros((64, 64, 3), np.uint8)], truths, categories=("a",))
    detect = oracle_detect(truths, config.focus_range, 1)
    rules = [ChipRule(2.0, 1, 16), ChipRule(3.0, 1, 16)]
    assert chip_rules.search(config, detect, dataset, [rules], 0.5, lambda _: None) == [rules[0]]


def test_bad_config_is_one_line(tmp_path, capsys):
    assert main(["experiment", "chip_rules", "--config", str(tmp_path / "none.py"), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_vocs_metric_and_no_objects(config, memory_dataset, truth):
    truths = [truth([[52, 50, 62, 60]], [0])]
    dataset = memory_dataset([np.zeros((64, 64, 3), np.uint8)], truths, categories=("a",))
    voc = dataclasses.replace(config, metric="voc")
    seen = []
    rules = [ChipRule(0.5, 1, 16), ChipRule(2.0, 1, 16)]
    detect = oracle_detect(truths, config.focus_range, 1)
    assert chip_rules.search(voc, detect, dataset, [rules], 0.5, seen.append) == [rules[0]]
    assert [candidate.ap for candidate in seen] == pytest.approx([100, 100, 0])
    empty = memory_dataset([np.zeros((64, 64, 3), np.uint8)], [truth()], categories=("a",))
    with pytest.raises(AutoFocusError, match="no image holds an object"):
        chip_rules.search(voc, oracle_detect([truth()], config.focus_range, 1), empty, [rules], 0.5, seen.append)
