"""Saving and restoring a training state with orbax."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from autofocus_jax import parallel
from autofocus_jax.detector.api import Variables
from autofocus_jax.errors import CheckpointError
from autofocus_jax.ledger import locked
from autofocus_jax.machine.terminal import printable
from autofocus_jax.structures import TrainState
from autofocus_jax.weights import fit

_UNFINISHED = "*.orbax-checkpoint-tmp*"  # names of folders that orbax is writing, or was killed in


class Saved(NamedTuple):
    """Content of a checkpoint of a training."""

    state: TrainState
    position: tuple[int, int]  # epoch and batch that come next
    config: dict  # settings, as JSON data, that it was made with


class Manager(ocp.CheckpointManager):
    """orbax's CheckpointManager with its preemption check disabled; the training loop checks instead.

    Closing the manager releases its folder.
    """

    def __init__(self, folder: Path, options: ocp.CheckpointManagerOptions, held: contextlib.ExitStack):
        """Make the manager; `held` keeps the folder from other managers and is closed with this one."""
        super().__init__(folder, options=options)
        self._held, self._writing = held, ""

    def begin(self, step: int) -> None:
        """Wait for the previous save. Raises CheckpointError, which names its step, if that failed."""
        with self._named():
            self.wait_until_finished()
        self._writing = str(step)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError) as error:
            raise CheckpointError(_unwritten(self.directory / self._writing, error)) from None

    def reached_preemption(self, step: int) -> bool:
        """Return False. One process alone has a manager, and a question that not all processes ask would block them."""
        return False

    def close(self) -> None:
        """Wait for pending saves and release the folder. Raises CheckpointError if a save failed."""
        try:
            with self._named():
                super().close()
        finally:
            self._held.close()


def manager(workdir: str | Path, keep: int = 2) -> Manager:
    """Return a manager that keeps the last `keep` states, and the one of the highest score, in WORKDIR/checkpoints.

    Only one of several processes may have a manager. Remains of an interrupted save are removed. Raises LedgerError,
    and removes nothing, while another manager of the folder is open.
    """
    _hush_orbax()
    folder, held = _folder(workdir), contextlib.ExitStack()
    try:
        held.enter_context(locked(folder))
        for unfinished in folder.glob(_UNFINISHED):  # orbax would do so in the background, at some later time
            shutil.rmtree(unfinished)
        return Manager(folder, _options(keep), held)
    except BaseException:
        held.close()
        raise


def _options(keep: int) -> ocp.CheckpointManagerOptions:
    # BestN sorts rising and keeps the last.
    best = BestN(get_metric_fn=_ranking, n=1, keep_checkpoints_without_metrics=False)
    return ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy([LatestN(keep), best]), create=False,
        best_fn=_ranking,  # or else scores are not written, and a run that goes on would not know them
        multiprocessing_options=_alone(),
    )  # fmt: skip


@functools.cache
def _hush_orbax() -> None:
    """Keep the terminal free of what orbax logs beside the errors that it raises.

    Python would print a traceback, too, for each write that was pending when another write of its save failed. The
    first failure ends orbax's event loop. Writes that end later find the loop closed and raise where nobody can catch
    it; the failure itself is raised by `save` or `close`.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_hush)
    before = sys.unraisablehook

    def hook(found: sys.UnraisableHookArgs) -> None:
        if not (isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"):
            before(found)

    sys.unraisablehook = hook


def _hush(record: logging.LogRecord) -> bool:
    """Return False for messages that orbax logs, or leaves to asyncio to log.

    These are tracebacks, one for each thread or write that failed, of an error that it raises too.
    """
    return f"{os.sep}orbax{os.sep}" not in record.pathname and "never retrieved" not in record.getMessage()


def _ranking(metrics: dict) -> float:
    return -math.inf if metrics["score"] is None else metrics["score"]


def _unwritten(where: Path, error: Exception) -> str:
    full = any(word in str(error) for word in ("RESOURCE_EXHAUSTED", os.strerror(errno.ENOSPC)))
    why = os.strerror(errno.ENOSPC) if full else _reason(error)
    return f"checkpoint of step {where.name} in {where.parent} cannot be written ({why}); check the space on the disk"


def steps(workdir: str | Path) -> list[int]:
    """Return the steps of the finished checkpoints of a training folder, rising."""
    return sorted(int(item.name) for item in _folder(workdir).glob("*") if item.name.isdigit())


def save(
    checkpoints: Manager, state: TrainState, position: Sequence[int], config: dict,
    score: float | None = None,
) -> None:  # fmt: skip
    """Copy a state to the host and write it in the background. `checkpoints.wait_until_finished()` waits for the write.

    The score is that of the state's validation, higher is better. A state without a score is never the best. Raises
    CheckpointError if this state, or the one before, cannot be written.
    """
    stored = {name: value for name, value in parallel.fetch(state._asdict()).items() if value is not None}
    run = {"position": [int(number) for number in position], "config": config}
    arguments = ocp.args.Composite(state=ocp.args.StandardSave(stored), run=ocp.args.JsonSave(run))
    step = int(stored["step"])
    checkpoints.begin(step)
    try:
        checkpoints.save(step, args=arguments, metrics={"score": score})
    except (ValueError, OSError) as error:
        raise CheckpointError(_unwritten(checkpoints.directory / str(step), error)) from None


def restore(checkpoints: ocp.CheckpointManager, like: TrainState) -> Saved:
    """Return the newest checkpoint as NumPy arrays (except the key) of the shapes of `like`.

    Call put_aside first. Raises CheckpointError if the shapes differ or the checkpoint cannot be read.
    """
    step = checkpoints.latest_step()
    expected = {name: value for name, value in like._asdict().items() if value is not None}
    expected["key"] = jax.eval_shape(jax.random.key_data, like.key)
    # Arrays that take no memory, which is how orbax is told to give NumPy arrays back.
    expected = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), expected)
    arguments = ocp.args.Composite(state=ocp.args.StandardRestore(expected), run=ocp.args.JsonRestore())
    where = f"checkpoint {checkpoints.directory}/{step}"
    advice = "use another workdir or the config it was made with"
    try:
        stored = checkpoints.restore(step, args=arguments)
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointError(f"{where} is not of this config, or damaged ({_reason(error)}); {advice}") from None
    # Orbax does not compare the shapes of NumPy arrays.
    have, want = ({jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
                   for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
                  for tree in (stored["state"], expected))  # fmt: skip
    for line in fit.compare(have, want).other.values():
        raise CheckpointError(f"{where} is not of this config ({line}); {advice}")
    state = TrainState(**{**stored["state"], "key": jax.random.wrap_key_data(stored["state"]["key"])})
    return Saved(state, tuple(stored["run"]["position"]), stored["run"]["config"])


def damage(folder: Path) -> str | None:
    """Return in a few words why a checkpoint cannot be read, or None if every byte can be read."""
    try:
        if (folder / "default").is_dir() and not (folder / "state").is_dir():
            return "an older version wrote it, without the position in the data"
        score = folder / "metrics" / "metrics"  # that older versions did not write
        for file in (folder / "run" / "metadata", *([score] if score.parent.exists() else [])):
            json.loads(file.read_text(encoding="utf-8"))
        _read(folder / "state")
    except (ValueError, OSError, KeyError) as error:
        return _reason(error)
    return None


def _read(arrays: Path) -> dict[str, Any]:
    """Return a tree of arrays that orbax wrote; ValueError, OSError or KeyError when one cannot be read."""
    _hush_orbax()
    json.loads((arrays / "_METADATA").read_text(encoding="utf-8"))
    with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
        return checkpointer.restore(arrays)


def put_aside(workdir: Path) -> list[str]:
    """Move unreadable checkpoints, from the newest on, to WORKDIR/damaged. Return a line for each.

    Lines also name saves that a kill interrupted; `manager` removes these. Raises CheckpointError, and moves nothing,
    if there are checkpoints but none can be read.
    """
    cut = sorted(item.name for item in _folder(workdir).glob(_UNFINISHED))
    lines = [f"checkpoint {name.split('.')[0]} was cut off while it was written, and is passed over" for name in cut]
    broken: dict[int, str] = {}
    for step in reversed(steps(workdir)):
        reason = damage(_folder(workdir) / str(step))
        if reason is None:
            break
        broken[step] = reason
    else:
        if broken:
            newest = max(broken)
            raise CheckpointError(
                f"no checkpoint in {workdir}/checkpoints can be read (the newest, {newest}: {broken[newest]}); "
                "use another workdir"
            )
    for step, reason in broken.items():
        number = 0
        while (target := workdir / "damaged" / (f"{step}-{number}" if number else str(step))).exists():
            number += 1
        target.parent.mkdir(exist_ok=True)
        os.replace(_folder(workdir) / str(step), target)
        lines.append(f"checkpoint {step} is damaged ({reason}), is passed over, and lies in {target} now")
    return lines


def _folder(workdir: str | Path) -> Path:
    return _named(Path(workdir).absolute()) / "checkpoints"


def _named(folder: Path) -> Path:
    """The folder; CheckpointError for one whose name is not UTF-8, which orbax neither writes nor reads."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{printable(folder)} has a name that is not UTF-8; choose another name") from None
    return folder


def _alone() -> ocp.options.MultiprocessingOptions:
    """Orbax neither waits for other processes nor leaves anything to them."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process{process}"
    )


def _reason(error: Exception) -> str:
    """The beginning of orbax's message, which may run over many lines."""
    return " ".join(str(error).split())[:200]


def variables(folder: Path) -> Variables:
    """Return the variables of one checkpoint, the averaged ones (EMA) if there are any. Raises CheckpointError."""
    folder = _named(folder.absolute())
    # The arrays of older versions lie in "default".
    arrays = next((folder / name for name in ("state", "default") if (folder / name).is_dir()), folder / "state")
    try:
        stored = _read(arrays)
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {folder} is damaged ({_reason(error)}); remove that folder to use the one before it"
        ) from None
    averaged = stored.get("ema")
    return {"params": stored["params"] if averaged is None else averaged, "batch_stats": stored["batch_stats"]}
