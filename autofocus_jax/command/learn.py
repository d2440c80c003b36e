"""`autofocus learn`: a focus network for a detector that you have, from what it finds itself or from boxes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from autofocus_jax import ledger, parallel
from autofocus_jax.command import learn_labels, learn_plan, learn_training
from autofocus_jax.command.compare import opened, require_inputs
from autofocus_jax.command.console import Screen
from autofocus_jax.command.learn_labels import Known, Labelled
from autofocus_jax.command.learn_plan import Found
from autofocus_jax.command.options.learn import Arguments
from autofocus_jax.command.plan_file import plan_text, read_plan
from autofocus_jax.command.trained import model_digest
from autofocus_jax.config import Config, ConfigError, TrainingConfig
from autofocus_jax.config.load import to_dict
from autofocus_jax.data.image import quiet_decoders
from autofocus_jax.detector.focus_network import FocusNetworkConfig
from autofocus_jax.files import write_text
from autofocus_jax.focus import pyramid, walk
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.proposal import THRESHOLD
from autofocus_jax.inference.focus_network import FocusNetwork, probabilities
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.planning.risk import losses, photographs_needed, risk_threshold
from autofocus_jax.structures import STRIDE, AutoFocusError, Dataset, Detections, Where
from autofocus_jax.weights import safetensors
from autofocus_jax.where.truth import SMALL

_TRAINED = 8  # photographs at least to learn from
_APART = 0.3  # share of the photographs that is kept apart, if that is enough
_HIGHEST = 0.99  # threshold of a network that need not look anywhere


class Held(NamedTuple):
    """What a network says of a photograph that it has not seen."""

    focus: np.ndarray  # [h, w] probabilities on the coarse level
    values: np.ndarray  # as learn_labels.values
    size: tuple[int, int]  # (height, width), image px


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
    quiet_decoders()
    parallel.cache_compilations()
    _check(arguments)
    dataset, detector, skipped = opened(arguments, console)
    _least(len(dataset), arguments.miss)
    plan, sides = learn_plan.begin(arguments, detector, dataset)
    training = TrainingConfig(arguments.steps, arguments.step_batch, learning_rate=arguments.learning_rate)
    configured = partial(learn_training.configured, arguments.initial, arguments.share, training=training,
                         seed=arguments.seed)  # fmt: skip
    variables = learn_training.begin(configured(side=sides[0]), arguments.initial)  # before hours of detecting
    found, failed = _found(arguments, dataset, detector, sides, console)
    for one in (*skipped, *failed):
        console.say(f"skipped: {one.file_name}: {one.reason}")
    parts = _split(found, arguments)
    plan = learn_plan.choose(dataset, sides, parts[0], console.say) if plan is None else plan
    known = partial(_known, arguments, dataset, sides, plan)
    taught, kept = ([(index, known(index, at)) for index, at in part] for part in parts)
    config = configured(side=plan.scales[0].max_side)
    for name, part in (("to learn from", taught), ("kept apart", kept)):
        counts = learn_labels.counted([one for _, one in part])
        console.say("{}: {photographs} photographs, {objects} objects, {need} of which need a second look".format(
            name, **counts))  # fmt: skip
        if not counts["need"]:
            raise AutoFocusError(f"no object of the photographs {name} needs a second look; there is nothing to learn: "
                                 "give other photographs, or a plan whose coarse scale is smaller")  # fmt: skip
    variables = learn_training.train(config, variables, Labelled(dataset, taught), Path(arguments.work), console)
    with console.progress() as progress:
        task = progress.add_task("kept apart", total=len(kept))
        look = probabilities(FocusNetwork(cast(FocusNetworkConfig, config.detector), variables, THRESHOLD))
        held = [_held(look, dataset, index, one, plan, lambda: progress.advance(task)) for index, one in kept]
    threshold = risk_threshold([one.values for one in held], arguments.miss)
    if threshold is None:
        raise AutoFocusError(f"no threshold loses at most {arguments.miss:.0%} on {len(held)} photographs kept apart; "
                             "train for more steps, give more photographs, or allow a larger miss")  # fmt: skip
    _finish(arguments, config, variables, min(threshold, _HIGHEST), held, plan, console)
    return 0


def _check(arguments: Arguments) -> None:
    require_inputs(arguments.photos, arguments.detector)
    if not arguments.output.endswith(".safetensors"):
        raise ConfigError(f"--output {arguments.output}; want the name of a .safetensors file")
    _keep_what_is_beside(arguments)
    for name, good, wanted in (
        ("miss", 0.005 <= arguments.miss <= 0.5, "a share from 0.005 to 0.5"),
        ("share", arguments.share is None or 0.1 <= arguments.share <= 1, "a number from 0.1 to 1"),
        ("steps", arguments.steps >= 1, "at least 1"),
        ("step-batch", arguments.step_batch >= 1, "at least 1"),
        ("side", arguments.side is None or arguments.side >= STRIDE, f"at least {STRIDE} px"),
        ("seed", arguments.seed >= 0, "0 or more"),
        ("learning-rate", math.isfinite(arguments.learning_rate) and arguments.learning_rate > 0, "a positive number"),
    ):  # fmt: skip
        if not good:
            raise ConfigError(f"--{name} {getattr(arguments, name.replace('-', '_'))}; want {wanted}")


def _keep_what_is_beside(arguments: Arguments) -> None:
    """ConfigError if the plan would overwrite a file that is given, or one that is no plan."""
    beside = _plan_beside(arguments.output)
    given = {"annotations": arguments.annotations, "names": arguments.options.names, "plan": arguments.plan}
    for name, path in given.items():
        if path is not None and Path(path).expanduser().resolve() == beside.resolve():
            raise ConfigError(f"--{name} {path} would be overwritten by the plan; choose another --output")
    if beside.exists():
        try:
            read_plan(str(beside))
        except ConfigError as error:
            raise ConfigError(f"{beside} would be overwritten by the plan, and is none ({error}); choose another "
                              "--output") from None  # fmt: skip


def _plan_beside(output: str) -> Path:
    return Path(output).with_suffix(".json")


def _found(
    arguments: Arguments, dataset: Dataset, detector: CropDetector, sides: Sequence[int], console: Screen
) -> tuple[list[Found], list[Skipped]]:
    """What the detector finds in each photograph at each side, nothing with boxes, and the photographs that failed."""
    if arguments.annotations is not None:
        return [(index, ()) for index in range(len(dataset))], []
    facts = to_dict(dataclasses.replace(arguments.options, names=None, threads=0, providers=()))
    depends = {"detector": model_digest(arguments.detector), "options": facts, "sides": list(sides),
               "photographs": ledger.data_identity(dataset, contents=True)}  # fmt: skip
    kept = ledger.Ledger(Path(arguments.work) / "detections", depends, makes=("*.npz",), fix="give another --work")
    with console.progress() as progress:
        task = progress.add_task("detecting", total=len(dataset))
        at, failed = learn_labels.detections(dataset, detector, sides, kept, lambda: progress.advance(task))
    return list(at.items()), failed


def _known(
    arguments: Arguments, dataset: Dataset, sides: Sequence[int], plan: Plan, index: int, at: Sequence[Detections]
) -> Known:
    """What is known of a photograph, by its boxes or by what was found at each side."""
    if arguments.annotations is not None:
        info = dataset.info(index)
        small = SMALL.b / pyramid.factor(info.height, info.width, plan.scales[0])
        return learn_labels.drawn(dataset.ground_truth(index), small)
    coarse, fine = (at[sides.index(scale.max_side)] for scale in plan.scales)
    return learn_labels.judge(coarse, fine, plan.scales)


def _least(count: int, miss: float) -> int:
    """The photographs that must be kept apart; AutoFocusError where too few are left to learn from."""
    least = photographs_needed(miss)
    if count < least + _TRAINED:
        raise AutoFocusError(f"{count} photographs; a miss of {miss:g} takes {least} that are kept apart and "
                             f"{_TRAINED} to learn from, {least + _TRAINED} in all: give more, or allow a larger miss"
                             )  # fmt: skip
    return least


def _split(found: Sequence[Found], arguments: Arguments) -> tuple[list[Found], list[Found]]:
    """Photographs to learn from, and photographs that are kept apart, drawn at random."""
    least = _least(len(found), arguments.miss)
    apart = min(max(2 * least, round(_APART * len(found))), len(found) - _TRAINED)
    order = np.random.default_rng(arguments.seed).permutation(len(found))
    return [found[place] for place in sorted(order[apart:])], [found[place] for place in sorted(order[:apart])]


def _held(look: Where, dataset: Dataset, index: int, one: Known, plan: Plan, tick: Callable[[], None]) -> Held:
    """What the network says of a photograph."""
    image = dataset.image(index)
    height, width = image.shape[:2]
    whole = np.array([0, 0, width, height])
    level, _, factors = pyramid.crop(image, whole, pyramid.factor(height, width, plan.scales[0]))
    (focus,) = look([level], [], None)
    tick()
    return Held(focus, learn_labels.values(focus, one, factors, STRIDE), (height, width))


def pixels(focus: np.ndarray, size: tuple[int, int], plan: Plan) -> tuple[int, int]:
    """Return the px that a cascade of two scales looks at with this focus map, and that the whole pyramid has."""
    first = walk.place(None, size, 1, walk.whole_image(size), plan)
    everywhere = walk.place(None, size, 2, walk.whole_image(size), plan)
    chips = walk.place(None, size, 2, walk.zoom(first, [focus], plan.functions[0]), plan)
    coarse, fine, full = (sum(int(np.prod(chip.size)) for chip in part) for part in (first, chips, everywhere))
    return coarse + fine, coarse + full


def _finish(
    arguments: Arguments, config: Config, variables: Any, threshold: float, held: Sequence[Held], plan: Plan,
    console: Screen,
) -> None:  # fmt: skip
    """Say what is forecast, and write the network and its plan."""
    stored = _plan_beside(arguments.output)
    # Commands rescale the network's probabilities so that its own threshold becomes THRESHOLD.
    write_text(stored, plan_text(plan.with_thresholds(THRESHOLD)))
    plan = plan.with_thresholds(threshold)
    looked, full = np.sum([pixels(one.focus, one.size, plan) for one in held], axis=0) / len(held)
    missed = float(losses([one.values for one in held], threshold).mean())
    saving = full / looked
    console.say(f"threshold {threshold:.3g}: {missed:.1%} of a photograph's objects are lost on the {len(held)} kept "
                f"apart; of other photographs of this kind at most {arguments.miss:.1%}, on average")  # fmt: skip
    console.say(f"forecast: a side of {math.sqrt(looked):.0f} px where everywhere has {math.sqrt(full):.0f}, "
                f"{saving:.1f} times fewer pixels")  # fmt: skip
    facts = {"threshold": threshold, "miss": arguments.miss, "kept_apart": len(held), "missed": missed,
             "side": math.sqrt(looked), "saving": saving, "level": plan.scales[0].max_side}  # fmt: skip
    safetensors.save(arguments.output, variables, {"detector": to_dict(config)["detector"]}, facts)
    console.say(f"written: {arguments.output}, {stored}; use them with --focus either --focus-weights "
                f"{arguments.output} --plan {stored}")  # fmt: skip
