"""Options of a foreign detector, shared by several commands, and the detector that they describe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from autofocus_jax.config import ConfigError

if TYPE_CHECKING:
    from autofocus_jax.foreign.detect import ForeignDetect
    from autofocus_jax.foreign.found import CropDetector

Focus = Literal["weak", "network", "either", "none"]
Numbers = tuple[float, float, float]
_FILE_SAYS = "(default: that of the file)"


def _said_by_file(metavar: str) -> object:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=_FILE_SAYS)


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """How an ONNX file is to be understood and run."""

    layout: Annotated[str | None, _said_by_file("NAME")] = None
    """how the outputs are to be read, as yolox or end2end; a wrong name lists all of them"""
    names: Annotated[str | None, _said_by_file("FILE")] = None
    """names of the classes: a text file with one a line, or a COCO file"""
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...", help_behavior_hint="(default: all)")] = ()
    """names of the classes that count"""
    channels: Annotated[Literal["RGB", "BGR"] | None, _said_by_file("{RGB,BGR}")] = None
    """order of the channels in the input"""
    mean: Annotated[Numbers | None, _said_by_file("R G B")] = None
    """an input value is (pixel - mean) / deviation, of pixels 0..255"""
    deviation: Annotated[Numbers | None, _said_by_file("R G B")] = None
    """see --mean; 255 255 255 alone gives 0..1"""
    padding: Annotated[tuple[int, int, int] | None, _said_by_file("R G B")] = None
    """colour of what surrounds a chip in the input"""
    fit: Annotated[Literal["letterbox", "stretch"] | None, _said_by_file("{letterbox,stretch}")] = None
    """how a whole photograph is put into a fixed input; chips are never resized"""
    centred: Annotated[bool | None, _said_by_file("{True,False}")] = None
    """whether a letterboxed photograph lies in the centre of the input, or in its upper left corner"""
    canvas: Annotated[
        tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH", help_behavior_hint="(default: each chip's own)")
    ] = None
    """input size, px, for a file that takes any size"""
    batch: Annotated[int | None, _said_by_file("N")] = None
    """inputs of one run, for a file that takes any number"""
    score_threshold: float = 0.01
    """least score of a detection, and of a hint where to look again"""
    nms_iou: float = 0.65
    """IoU of NMS inside each class, for outputs that need NMS"""
    providers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = ("cpu",)
    """devices for the model, best first: cpu, cuda, tensorrt, or onnxruntime's own names; the first must start"""
    threads: int = 0
    """threads of one run of the model; 0 lets onnxruntime choose"""

    def load(self, path: str) -> CropDetector:
        """Return the detector of an ONNX file; ForeignError or ConfigError, one line, where there is none."""
        from autofocus_jax.command.names import read_names  # here, as these import what is slow to import
        from autofocus_jax.foreign.onnx_model import load_onnx
        from autofocus_jax.foreign.onnx_settings import OnnxSettings

        names = read_names(self.names).names if self.names is not None else None
        same = ("layout", "channels", "mean", "deviation", "padding", "fit", "centred", "batch", "score_threshold",
                "nms_iou", "providers", "threads")  # fmt: skip
        values = {name: getattr(self, name) for name in same}
        return load_onnx(path, OnnxSettings(categories=names, only=self.only or None, side=self.canvas, **values))


@dataclasses.dataclass(frozen=True)
class DetectorOptions(ModelOptions):
    """A detector in an ONNX file, and where it looks again."""

    detector: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """an .onnx file: a detector that you already have"""
    packed: bool = True
    """let chips of one photograph share a fixed input"""
    focus: Focus = "weak"
    """where to look again. weak: where the detector found something small, however weakly; network: where the focus
    network of --focus-weights says so; either: both; none: everywhere (the full image pyramid)"""
    focus_weights: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """a focus network, as `autofocus learn` writes it"""
    focus_size: Annotated[float, tyro.conf.arg(metavar="PX")] = 64.0
    """a detection below this size (square root of its area, px of the level) is small"""
    focus_score: Annotated[float | None, tyro.conf.arg(metavar="T", help_behavior_hint="(default: as proposed)")] = None
    """least score of a small detection to look at again"""
    side: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: by the detector)")] = None
    """longer side at which the detector sees a whole photograph well, for the proposed plan"""
    plan: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: proposed)")] = None
    """scales, valid ranges and chip rules for --detector: a .json file as `autofocus suggest --detector` writes it"""

    def __post_init__(self):
        if self.focus_score is not None and not 0 <= self.focus_score <= 1:
            raise ConfigError(f"--focus-score must be in [0, 1], got {self.focus_score:g}")
        if (self.focus_weights is not None) != (self.focus in ("network", "either")):
            raise ConfigError(f"--focus {self.focus} and --focus-weights do not go together; give both for network and "
                              "either, and no weights else")  # fmt: skip


def check_choice(weights: str, options: DetectorOptions, config: str | None) -> None:
    """Raise ConfigError unless either --weights or --detector is given, with options that go with it.

    Args:
        weights: --weights, "" where there are none.
        options: `names` may be given with weights too.
        config: --config.
    """
    if bool(weights) == (options.detector is not None):
        raise ConfigError("--weights and --detector exclude each other; give one of them" if weights else
                          "--weights is missing; give a .safetensors file, a training's --workdir, or demo; or "
                          "--detector with an .onnx file")  # fmt: skip
    if weights:
        for field in dataclasses.fields(options):
            if field.name not in ("detector", "names") and getattr(options, field.name) != field.default:
                raise ConfigError(f"--{field.name.replace('_', '-')} goes with --detector; leave it out")
    elif config is not None:
        raise ConfigError("--config goes with --weights; a detector takes --plan")


def checked_sides(score: float, thresholds: Sequence[float], scales: Sequence[str]) -> list[tuple[int, int]]:
    """Return the sides that --scales gives; ConfigError for these, and for --score and --threshold outside [0, 1]."""
    for name, values in (("score", (score,)), ("threshold", thresholds)):
        if any(not 0 <= value <= 1 for value in values):
            raise ConfigError(f"--{name} {' '.join(f'{value:g}' for value in values)}; want probabilities from 0 to 1")
    matches = [re.fullmatch(r"(\d{1,5})x(\d{1,5})", word) for word in scales]
    if not all(matches):
        raise ConfigError(f"--scales {' '.join(scales)}; want shorter x longer side of each, as 480x512")
    return [(int(match[1]), int(match[2])) for match in matches]


def load_detector(options: DetectorOptions) -> CropDetector:
    """Return the detector that options describe; ConfigError where they name no file."""
    if options.detector is None:
        raise ConfigError("--detector is missing; give an .onnx file")
    return options.load(options.detector)


def load_foreign(options: DetectorOptions) -> ForeignDetect:
    """Return the detector that options describe as a `detect` for the cascade."""
    from autofocus_jax.foreign.canvases import CanvasConfig
    from autofocus_jax.foreign.detect import ForeignDetect
    from autofocus_jax.inference.focus_network import look_of

    detector = load_detector(options)
    where = look_of(options.focus, options.focus_weights, options.focus_size)
    return ForeignDetect(detector, where, CanvasConfig(packed=options.packed))
