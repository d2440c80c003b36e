"""What `autofocus detect` says at its end: speed, cost, what was skipped, and the exit code."""

from __future__ import annotations

import sys

from rich.console import Console

from autofocus_jax.command.detection_run import Summary
from autofocus_jax.command.stopping import exit_code, word
from autofocus_jax.structures import AutoFocusError

_NAMED = 20  # skipped files that are named


def report(summary: Summary, output: str, score: float, ours: bool, warm: bool, console: Console) -> int:
    """Print what was done and left; return the exit code.

    Args:
        summary: the run.
        output: folder of the results.
        score: detections below it were left out.
        ours: the detector is one of weights, whose canvases are of no interest.
        warm: nothing was compiled during the run.
        console: where to.
    """
    say = lambda text: console.print(text, soft_wrap=True, markup=False, highlight=False)  # noqa: E731
    if summary.images:
        speed = speed_of(summary) if warm else f"{summary.seconds:.1f} s with compiling"
        say(f"{summary.images} images, {summary.found} detections of score {score:g} or more; "
            f"{speed}, {'' if ours else canvases_of(summary)}{share_of(summary)}; "
            f"in {output}")  # fmt: skip
    if summary.skipped:
        say(f"{len(summary.skipped)} failed and were skipped:")
        for _, reason in summary.skipped[:_NAMED]:
            say(f"  {reason}")
        if len(summary.skipped) > _NAMED:
            say(f"  … and {len(summary.skipped) - _NAMED} more")
    if isinstance(summary.stopped, KeyboardInterrupt):
        failed = summary.stopped.__context__  # an output that could not be written when the signal came
        also = f"; {failed}" if isinstance(failed, AutoFocusError) else ""
        print(f"autofocus detect: {word(summary.stopped)}; the results of {summary.images} images are kept{also}",
              file=sys.stderr)  # fmt: skip
        return exit_code(summary.stopped)
    if summary.stopped is not None:
        print(f"autofocus detect: {summary.stopped}", file=sys.stderr)
        return 1
    if not summary.images:
        print("autofocus detect: not one image could be processed", file=sys.stderr)
        return 1
    return 0


def speed_of(summary: Summary) -> str:
    """Return images/s in words."""
    return f"{summary.images / max(summary.seconds, 1e-9):.1f} images/s"


def share_of(summary: Summary) -> str:
    """Return the share of the pyramid's pixels in words."""
    if summary.cost is None:
        return "no pixels"
    return f"{summary.cost.pixels.sum() / summary.cost.full_pixels.sum():.1%} of the pyramid's pixels"


def canvases_of(summary: Summary) -> str:
    """Return how many inputs the detector ran on in words."""
    return f"{summary.cost.runs.sum() / summary.images:.1f} canvases an image, "
