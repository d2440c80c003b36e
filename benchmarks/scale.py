"""From images/s, bytes an image and failure rates to a billion images: machines, hours, storage, network, repetitions.

    python benchmarks/scale.py --images-per-second 43 --cores 2

Every number that is not computed is an option; those without a default must be measured first. The formulae are in
`plan`, and explained in docs/scale.md.
"""

from __future__ import annotations

import dataclasses
import math

import tyro
from rich import box
from rich.console import Console
from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Options:
    images_per_second: float
    """of one worker, measured on images like those to come (benchmarks/batch.py)"""
    images: float = 1e9
    """of the whole job"""
    hours: float = 24.0
    """in which it is to end"""
    workers_per_machine: int = 1
    """GPUs of a machine, or shares of its cores"""
    cores: int = 1
    """of each worker, for the report alone"""
    bytes_in: float = 200e3
    """of an image file"""
    bytes_out: float = 2e3
    """of an image's row in the output"""
    piece: int = 4096
    """images whose results are one file"""
    efficiency: float = 0.9
    """share of the time that workers work: the ends of pieces, the last pieces, stragglers"""
    start_seconds: float = 60.0
    """from the start of a worker until its first image"""
    failures_per_machine_day: float = 0.01
    """machines that are lost, a machine and day; spot machines are lost far more often"""
    corrupt: float = 0.001
    """share of images that cannot be read"""
    disk_bytes_per_second: float = 1e9
    """that one machine's network or disk delivers"""
    bytes_per_path: float = 100.0
    """that the driver holds for each image of a folder (not of shards or tables)"""
    requests_per_second: float = 5500.0
    """GETs that a store answers for one prefix"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a job takes; seconds, bytes and counts."""

    machines: int
    worker_hours: float
    wall_hours: float
    bytes_in: float
    bytes_out: float
    network_each: float  # bytes/s that one machine reads
    pieces: int
    piece_seconds: float
    machines_lost: float
    repeated_images: float
    error_rows: float
    listing_bytes: float  # in the driver, for a folder of single files
    listing_requests: float  # of a store, a thousand names each
    get_rate: float  # single files a second, for a folder of single files


def plan(options: Options) -> Plan:
    """The formulae of docs/scale.md."""
    work_seconds = options.images / (options.images_per_second * options.efficiency)
    workers = math.ceil(work_seconds / (3600 * options.hours))
    machines = math.ceil(workers / options.workers_per_machine)
    workers = machines * options.workers_per_machine
    wall = work_seconds / workers + options.start_seconds
    piece_seconds = options.piece / options.images_per_second
    lost = machines * options.failures_per_machine_day * wall / 86400
    # A lost machine repeats, on average, half a piece of each of its workers, and starts them again.
    repeated = (
        lost * options.workers_per_machine * (options.piece / 2 + options.start_seconds * options.images_per_second)
    )
    rate = workers * options.images_per_second * options.efficiency
    return Plan(
        machines=machines,
        worker_hours=work_seconds / 3600,
        wall_hours=wall / 3600,
        bytes_in=options.images * options.bytes_in,
        bytes_out=options.images * options.bytes_out,
        network_each=options.workers_per_machine * options.images_per_second * options.bytes_in,
        pieces=math.ceil(options.images / options.piece),
        piece_seconds=piece_seconds,
        machines_lost=lost,
        repeated_images=repeated,
        error_rows=options.images * options.corrupt,
        listing_bytes=options.images * options.bytes_per_path,
        listing_requests=options.images / 1000,
        get_rate=rate,
    )


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    found = plan(options)
    table = Table("", "", box=box.SIMPLE_HEAD, show_header=False)
    slow = ", MORE THAN IT GETS" if found.network_each > options.disk_bytes_per_second else ""
    rows = {
        "images": f"{options.images:.3g}, at {options.images_per_second:g} images/s a worker ({options.cores} cores)",
        "machines": f"{found.machines:,} of {options.workers_per_machine} workers each",
        "time": f"{found.wall_hours:.1f} h; {found.worker_hours:,.0f} worker hours",
        "read": f"{found.bytes_in / 1e12:,.1f} TB; {found.network_each / 1e6:,.1f} MB/s each machine{slow}",
        "written": f"{found.bytes_out / 1e12:,.2f} TB in {found.pieces:,} files",
        "a piece": f"{options.piece} images, {found.piece_seconds:.0f} s",
        "machines lost": f"{found.machines_lost:.1f}; work of {found.repeated_images:,.0f} images lost, "
        f"{found.repeated_images / options.images:.4%}",
        "error rows": f"{found.error_rows:,.0f}",
        "single files": f"{found.get_rate:,.0f} GETs/s (a prefix answers {options.requests_per_second:,.0f}), "
        f"{found.listing_bytes / 1e9:,.1f} GB of names in the driver, {found.listing_requests:,.0f} listings",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
