"""Find objects in many images on many machines with Ray, and write a Parquet data set.

autofocus batch s3://bucket/shards s3://bucket/found --weights model.safetensors --address auto
autofocus batch photos/ found/ --detector model.onnx

INPUT is a folder, a glob in quotes, Parquet files (a column of image bytes or of paths) or tar shards, on a local disk
or in a store (s3://, gs://). Without --address a cluster starts on this machine and ends with the command. A stopped
run continues when the same command is given again. Exit codes: 0 all images done; 3 all done, some rows hold errors;
1 not finished; 130 interrupted, 143 by SIGTERM.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from autofocus_jax.command.options.detector import DetectorOptions


@dataclasses.dataclass(frozen=True)
class Arguments:
    input: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="INPUT")]] = ""
    """folder, glob in quotes, Parquet files or tar shards; local, s3:// or gs://"""
    output: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OUTPUT")]] = ""
    """folder of the Parquet data set; local, s3:// or gs://"""
    weights: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="(or --detector)")] = ""
    """a .safetensors file, a training's --workdir, or "demo" (shipped)"""
    address: str | None = None
    """a running Ray cluster: HOST:PORT, or auto on one of its machines; by default a cluster starts here"""
    workers: Annotated[str, tyro.conf.arg(metavar="N|LEAST:MOST")] = ""
    """number of workers, or bounds between which Ray scales (by default one for each GPU, or for every 4 cores)"""
    cores: int | None = None
    """cores of each worker (by default an even share)"""
    per_gpu: int = 1
    """workers that share a GPU and its memory"""
    piece: int = 512
    """images of one result file; repeated when a worker dies. A tar shard is one piece"""
    score: float = 0.0
    """detections below this score are left out"""
    threshold: Annotated[tuple[float, ...], tyro.conf.arg(metavar="T...")] = ()
    """thresholds of the focus maps: one for all scales, or one for each but the last (by default of the weights)"""
    scales: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHORTERxLONGER...")] = ()
    """sides of the pyramid, coarse to fine, as 480x512 800x1280 1400x2000 (by default those of the weights)"""
    window: int | None = None
    """images that a worker holds at a time; give fewer for very large images (by default that of the weights)"""
    paths_anywhere: bool = False
    """also read absolute paths, URIs and ".." in Parquet files; for tables that you trust"""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """a config file, instead of the settings stored beside the weights"""
    options: Annotated[DetectorOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DetectorOptions)
    """a detector that you already have"""
