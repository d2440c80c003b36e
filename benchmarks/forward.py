"""How fast the paper's detector is, part by part, beside the same ResNet-101 in PyTorch.

    python benchmarks/forward.py --side 512 --rounds 10

Both programs run in turns in one process, so that each pair of runs sees the same machine; the ratio is the median over
pairs. "One by one" passes the images of a batch through the convolutions one after the other, in the same program.
PyTorch is wanted for the comparison alone (`pip install -e '.[benchmark]'`); `--no-torch` goes without.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.detector.deformable_pool import deformable_pool
from autofocus_jax.detector.folding import fold
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.detector.nms import nms
from autofocus_jax.detector.two_stage_network import Network, answer, look
from autofocus_jax.structures import STRIDE, ChipBatch


@dataclasses.dataclass(frozen=True)
class Options:
    side: int = 512
    """side of the images, px"""
    batches: tuple[int, ...] = (1, 4)
    """images a call"""
    rounds: int = 10
    """timed runs of each program, after one that warms up"""
    threads: int = os.cpu_count() or 1
    """of PyTorch"""
    units: tuple[int, int, int, int] = (3, 4, 23, 3)
    """bottleneck units of the four stages"""
    torch: bool = True
    """compare with PyTorch"""
    compute_dtype: str = "float32"
    """of ours, and of PyTorch's on a GPU; on a CPU it runs in float32"""
    one_by_one: bool = True
    """also pass the images of a batch through the network one after the other"""
    torch_device: str = "cpu"
    """where PyTorch runs; on another device than the CPU its network is compiled (torch.compile)"""


class Row(NamedTuple):
    """A line of the table."""

    what: str
    batch: int
    speed: float  # images/s
    ratio: float | None = None  # of PyTorch's time to its own
    share: float | None = None  # of the detector's time


def random_variables(config: DetectorConfig):
    """Variables of about unit gain, so that no value overflows and the two programs can be compared."""
    random = np.random.default_rng(0)

    def draw(path, like):
        kind, last = path[-1].key, path[-2].key
        if kind in ("var", "scale"):
            return random.uniform(0.5, 1.5, like.shape).astype(np.float32)
        if kind == "kernel":
            gain = np.sqrt((0.2 if last in ("conv3", "offset") else 2) / np.prod(like.shape[:-1]))
        else:
            gain = 0.1
        return np.float32(gain) * random.standard_normal(like.shape, np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(detector_of(config).init, jax.random.key(0)))


def torch_features(
    config: BackboneConfig, params: dict, stats: dict, device: str = "cpu", dtype: str = "float32"
) -> Callable:
    """The plain pre-activation network in PyTorch, channels last, with our parameters; compiled but on a CPU."""
    import torch
    from torch.nn import functional

    from autofocus_jax.detector.resnet import EPSILON

    def convolution(tree: dict, x, stride=1, dilation=1):
        return functional.conv2d(x, tree["kernel"], None, stride, dilation * (tree["kernel"].shape[2] // 2), dilation)

    def norm(tree: dict, known: dict, x):
        return functional.batch_norm(x, known["mean"], known["var"], tree.get("scale"), tree["bias"], eps=EPSILON)

    def load(path, value):
        tensor = torch.from_numpy(np.array(value)).to(device, getattr(torch, dtype))
        if path[-1].key == "kernel":
            tensor = tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        return tensor

    params, stats = (jax.tree_util.tree_map_with_path(load, tree) for tree in (params, stats))

    def unit(name: str, x, stride: int, dilation: int):
        tree, known = params[name], stats[name]
        active = functional.relu(norm(tree["bn1"], known["bn1"], x))
        shortcut = convolution(tree["shortcut"], active, stride) if "shortcut" in tree else x
        y = functional.relu(norm(tree["bn2"], known["bn2"], convolution(tree["conv1"], active)))
        y = functional.relu(norm(tree["bn3"], known["bn3"], convolution(tree["conv2"], y, stride, dilation)))
        return shortcut + convolution(tree["conv3"], y)

    def network(x):
        x = norm(params["bn_data"], stats["bn_data"], x)
        x = functional.relu(norm(params["bn0"], stats["bn0"], convolution(params["conv0"], x, 2)))
        x, outputs = functional.max_pool2d(x, 3, 2, 1), []
        for stage, units in enumerate(config.units, 1):
            for number in range(1, units + 1):
                stride = 2 if number == 1 and stage in (2, 3) else 1
                x = unit(f"stage{stage}_unit{number}", x, stride, config.dilation if stage == 4 else 1)
            outputs.append(x)
        return torch.cat(outputs[-2:], dim=1)

    network = network if device == "cpu" else torch.compile(network)

    @torch.inference_mode()
    def features(images):
        found = network(images)
        if device != "cpu":
            torch.cuda.synchronize()
        return found

    return features


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def in_turns(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run of each program; all run once before, and then one after the other."""
    for run in programs.values():
        jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            times[name].append(seconds(run))
    return times


FORMS = "plain", "folded", "deformable, folded"  # of the features


def deformable_detector(options: Options) -> DetectorConfig:
    """The paper's detector, with these units."""
    network = BackboneConfig(units=options.units, deformable_groups=4)
    return DetectorConfig(backbone=network, roi_pooling="deformable", compute_dtype=options.compute_dtype)


def compare_features(options: Options, deformable: DetectorConfig, forms: Sequence[str] = FORMS) -> Iterator[Row]:
    """Yield rows of images/s: plain, folded, deformable, batches image by image, and PyTorch's plain network."""
    plain = dataclasses.replace(deformable, backbone=dataclasses.replace(deformable.backbone, deformable_groups=0))

    def program(config: DetectorConfig, variables, one_by_one: bool = False):
        tree = {name: part["backbone"] for name, part in variables.items() if "backbone" in part}
        network = backbone(config.backbone, jnp.dtype(config.compute_dtype))

        def features(tree, images, size):
            if not one_by_one:
                return network.apply(tree, images, size, False)
            chips = images[:, None], size[:, None]
            return jax.lax.map(lambda chip: network.apply(tree, *chip, False), chips)[:, 0]

        return partial(jax.jit(features), jax.device_put(tree))

    variables, bent = random_variables(plain), random_variables(deformable)
    made = {"plain": (plain, variables), "folded": fold(plain, variables), "deformable, folded": fold(deformable, bent)}
    together = {form: program(*made[form]) for form in forms}
    singly = {f"{form}, one by one": program(*made[form], True) for form in forms if options.one_by_one}
    theirs = None
    if options.torch:
        import torch

        torch.set_num_threads(options.threads)
        tree = variables["params"]["backbone"], variables["batch_stats"]["backbone"]
        place = options.torch_device, "float32" if options.torch_device == "cpu" else options.compute_dtype
        theirs = torch_features(plain.backbone, *tree, *place)
    for batch in options.batches:
        images = np.random.default_rng(0).standard_normal((batch, options.side, options.side, 3)).astype(np.float32)
        on_device, size = jax.device_put(images), jnp.full((batch, 2), options.side)
        ours = together if batch == 1 else together | singly
        programs = {name: partial(run, on_device, size) for name, run in ours.items()}
        if theirs is not None:
            there = torch.from_numpy(images).permute(0, 3, 1, 2).to(place[0], getattr(torch, place[1]))
            programs["PyTorch, plain"] = partial(theirs, there)  # channels last as it is
            expected = theirs(there).permute(0, 2, 3, 1).float().cpu().numpy()
            for name in [name for name in ours if "deformable" not in name]:
                error = np.abs(np.asarray(programs[name](), np.float32) - expected).max() / expected.std()
                tolerance = 1e-3 if options.torch_device == "cpu" else 0.1  # GPUs round products to TF32
                if options.compute_dtype == "float32" and not error < tolerance:
                    raise SystemExit(f"{name} differs from PyTorch by {error:.1e} standard deviations; not measured")
        times = in_turns(programs, options.rounds)
        for name, own in times.items():
            pairs = [other / mine for mine, other in zip(own, times.get("PyTorch, plain", own))]
            ratio = statistics.median(pairs) if theirs is not None else None
            yield Row(f"features, {name}", batch, batch / statistics.median(own), ratio)


def shares(options: Options, config: DetectorConfig, whole: Callable | None = None) -> list[Row]:
    """Rows for the whole deformable detector, RPN, exact NMS and RoI pooling, with their shares of its faster form.

    Args:
        options: side, batch, rounds, and the forms of the whole detector.
        config: the detector.
        whole: a program of the whole detector, from chips; compiled here by default.
    """
    config, variables = fold(config, random_variables(config))
    batch, side, random = max(options.batches), options.side, np.random.default_rng(1)
    chips = ChipBatch(
        jnp.asarray(random.integers(0, 256, (batch, side, side, 3), np.uint8)), jnp.full((batch, 2), side),
        jnp.ones(batch, bool),
    )  # fmt: skip
    corner = random.uniform(0, 0.9 * side, (batch, config.proposals_before_nms, 2))
    boxes = jnp.asarray(np.concatenate([corner, np.minimum(corner + random.uniform(8, side, corner.shape), side)], 2))
    cells = side // STRIDE
    maps = jnp.asarray(random.standard_normal((batch, cells, cells, config.roi_channels)), config.compute_dtype)
    rois, bins = boxes[:, : config.proposals], (2, config.roi_size, config.roi_size)
    offsets = jnp.asarray(random.standard_normal((batch, config.proposals, *bins)), jnp.float32)
    thin = partial(nms, threshold=config.proposal_nms_iou, count=config.proposals)
    pool = jax.vmap(partial(deformable_pool, size=config.roi_size))
    arguments = jax.device_put(variables), chips

    def detect(variables, chips, one_by_one: bool):
        if one_by_one:
            rows = jax.lax.map(lambda chip: look(config, variables, jax.tree.map(lambda x: x[None], chip)), chips)
            seen, focus = jax.tree.map(lambda row: row[:, 0], rows)
        else:
            seen, focus = look(config, variables, chips)
        return answer(config, variables, seen), focus

    together = partial(jax.jit(partial(detect, one_by_one=False)), *arguments)
    forms = {"detector, deformable": together if whole is None else partial(whole, chips)}
    if options.one_by_one:
        forms["detector, deformable, one by one"] = partial(jax.jit(partial(detect, one_by_one=True)), *arguments)
    seen = jnp.zeros((batch, cells, cells, sum(config.backbone.channels[-2:])), config.compute_dtype)
    propose = partial(Network(config).apply, method=lambda network, x: network.proposal_head(x))
    parts = {
        "RPN head": partial(jax.jit(propose), arguments[0], seen),
        f"NMS, {boxes.shape[1]} to {config.proposals}": partial(
            jax.jit(jax.vmap(thin)), boxes, jnp.ones(boxes.shape[:2], bool)
        ),
        f"RoI pooling, {config.proposals}, both passes": partial(
            jax.jit(lambda *chip: (pool(*chip[:2]), pool(*chip))), maps, rois, offsets
        ),
    }
    times = {name: statistics.median(values) for name, values in in_turns(forms | parts, options.rounds).items()}
    fastest = min(times[name] for name in forms)
    return [Row(name, batch, batch / value, share=value / fastest) for name, value in times.items()]


def main(options: Options) -> None:
    from rich.console import Console  # gpu.py does without
    from rich.table import Table

    device = jax.devices()[0].device_kind
    table = Table(title=f"{options.side}x{options.side} px, {device}, {options.compute_dtype}, {options.rounds} rounds")
    for column in ("what", "batch", "images/s", "times PyTorch", "share of the detector"):
        table.add_column(column, justify="left" if column == "what" else "right")
    config = deformable_detector(options)
    for row in (*compare_features(options, config), *shares(options, config)):
        ratio, share = "-" if row.ratio is None else f"{row.ratio:.2f}", "" if row.share is None else f"{row.share:.1%}"
        table.add_row(row.what, str(row.batch), f"{row.speed:.2f}", ratio, share)
    Console().print(table)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
