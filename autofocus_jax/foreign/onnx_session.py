"""An ONNX file opened with onnxruntime: its declarations, its devices, the inputs beside the image, one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from autofocus_jax.foreign.found import ForeignError, first_line
from autofocus_jax.foreign.layouts import Tensor

if TYPE_CHECKING:
    import onnxruntime

_TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(uint8)": "uint8",
    "tensor(int32)": "int32", "tensor(int64)": "int64", "tensor(bool)": "bool",
}  # fmt: skip

# Inputs that exports have beside the image: (height, width) of the canvas and batch -> value. They say that the canvas
# is the whole image, unscaled, so boxes come back in canvas px.
_BESIDE: dict[str, Callable[[int, int, int], np.ndarray]] = {
    "scale_factor": lambda height, width, batch: np.ones((batch, 2)),
    "im_shape": lambda height, width, batch: np.tile([[height, width]], (batch, 1)),
    "orig_target_sizes": lambda height, width, batch: np.tile([[width, height]], (batch, 1)),
    "pixel_mask": lambda height, width, batch: np.ones((batch, height, width)),
}


class Session(NamedTuple):
    """An open model. `image` is the input that takes pixels, of shape [B, 3, H, W], [B, H, W, 3] or without B."""

    path: Path
    run: Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    image: Tensor
    channels_first: bool
    provider: str  # what it runs on

    @property
    def sides(self) -> tuple[int | None, int | None]:
        """Return (height, width) of the image input, None for a free one."""
        shape = self.image.shape[-3:]
        return (shape[1], shape[2]) if self.channels_first else (shape[0], shape[1])

    @property
    def batch(self) -> int | None:
        """Return the number of images of a run; None for any number."""
        return self.image.shape[0] if len(self.image.shape) == 4 else 1

    def answer(self, pixels: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Run canvases of `size` (height, width): outputs by name, 16-bit floats widened to 32 bits."""
        feeds = {}
        for tensor in self.inputs:
            if tensor.name == self.image.name:
                feeds[tensor.name] = pixels if len(tensor.shape) == 4 else pixels[0]
            else:
                value = _BESIDE[tensor.name](*size, len(pixels))
                feeds[tensor.name] = value.astype(tensor.dtype)
        answers = zip((tensor.name for tensor in self.outputs), self.run(feeds))
        return {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in answers}


def open_session(path: str | os.PathLike, providers: Sequence[str], threads: int) -> Session:
    """Open an ONNX file.

    Args:
      path: the file.
      providers: what to run on, best first: "cpu", "cuda", "tensorrt", or onnxruntime's own names.
      threads: of one run; 0 leaves it to onnxruntime.

    Raises:
      ForeignError: no onnxruntime, no file, no model, an operator that is not known, a provider that is not there or
        does not start, inputs that cannot be filled.
    """
    path = Path(path)
    if not path.is_file():
        raise ForeignError(f"model {path} does not exist; give an .onnx file")
    try:
        import onnxruntime
    except ImportError:
        raise ForeignError("onnxruntime is not installed; pip install 'autofocus_jax[onnx]'") from None
    names = [_provider(name, onnxruntime.get_available_providers()) for name in providers]
    if not names:
        raise ForeignError("providers are empty; name at least one, as in ('cpu',)")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what matters raises
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=names)
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise ForeignError(
            f"model {path} cannot be loaded; copy it again, or export it with ONNX's own operators: {first_line(error)}"
        ) from error
    session.disable_fallback()
    if session.get_providers()[0] != names[0]:
        raise ForeignError(
            f"model {path} was to run on {names[0]}, which does not start; it would run on "
            f"{session.get_providers()[0]}; mend the installation, or ask for that provider"
        )
    return _describe(path, session)


def _describe(path: Path, session: onnxruntime.InferenceSession) -> Session:
    inputs, outputs = (
        tuple(_tensor(path, node) for node in nodes) for nodes in (session.get_inputs(), session.get_outputs())
    )
    seen = f"inputs {', '.join(map(str, inputs))}; outputs {', '.join(map(str, outputs))}"
    images = [tensor for tensor in inputs if tensor.name not in _BESIDE and len(tensor.shape) in (3, 4)]
    strange = [tensor.name for tensor in inputs if tensor.name not in _BESIDE and tensor not in images]
    if len(images) != 1 or strange:
        raise ForeignError(
            f"model {path} wants other inputs than one image and any of {', '.join(_BESIDE)}; seen: {seen}"
        )
    shape = images[0].shape[-3:]
    if 3 not in (shape[0], shape[2]) and shape[0] is not None:
        raise ForeignError(f"model {path}: input {images[0]} takes no picture of three channels; seen: {seen}")
    return Session(
        path, lambda feeds: session.run(None, feeds), inputs, outputs,
        dict(session.get_modelmeta().custom_metadata_map), images[0], shape[2] != 3, session.get_providers()[0],
    )  # fmt: skip


def _tensor(path: Path, node: onnxruntime.NodeArg) -> Tensor:
    if node.type not in _TYPES:
        raise ForeignError(f"model {path}: {node.name} is of type {node.type}; want one of {', '.join(_TYPES)}")
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in node.shape)
    return Tensor(node.name, shape, _TYPES[node.type])


def _provider(name: str, available: Sequence[str]) -> str:
    """Return onnxruntime's name of a provider; ForeignError where this installation has none such."""
    for full in available:
        if name.lower() in (full.lower(), full.lower().removesuffix("executionprovider")):
            return full
    known = ", ".join(full.removesuffix("ExecutionProvider").lower() for full in available)
    raise ForeignError(f"provider {name!r} is not in this onnxruntime; it has {known}")
