"""Who gets what of a cluster's machines, and what a worker's process does about it."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from autofocus_jax.batch.shares import ClusterError, Machine, Share, share

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("machines, workers, cores, per_gpu, expected", [
    ([(2,)], None, None, 1, Share(1, 1, 2, 0)),
    ([(16,)], None, None, 1, Share(4, 4, 4, 0)),
    ([(16,)], (1, 8), None, 1, Share(1, 8, 2, 0)),
    ([(32, 4)], None, None, 1, Share(4, 4, 8, 1)),
    ([(16, 2)] * 2, None, None, 2, Share(8, 8, 4, 0.5)),
    ([(2,)], (2, 2), None, 1, Share(2, 2, 1, 0)),
    ([(2,)], (1, 8), None, 1, Share(1, 8, 1, 0)),
    ([(4,)] * 8, (1, 2), None, 1, Share(1, 2, 4, 0)),  # 16 each would be even, and fit no machine
    ([(6,)] * 2, (3, 3), None, 1, Share(3, 3, 3, 0)),  # 4 each, and the third would wait
    ([(6,)] * 3, None, None, 1, Share(3, 3, 6, 0)),
    ([(64,), (4, 4)], None, None, 1, Share(4, 4, 1, 1)),  # the machine with GPUs is the small one
    ([(32, 4)], (1, 5), None, 1, Share(1, 5, 8, 1)),
    ([(32, 4)], (1, 8), 3, 1, Share(1, 8, 3, 1)),
])  # fmt: skip
def test_share(machines, workers, cores, per_gpu, expected):
    assert share([Machine(*one) for one in machines], workers, cores, per_gpu) == expected


@pytest.mark.parametrize("machines, workers, cores, message", [
    ([(2,)], (4, 4), None, "4 workers of 1 cores, but 2 fit on the cluster, whose largest machine has 2 cores"),
    ([(4,)] * 4, None, 8, "1 workers of 8 cores, but 0 fit on the cluster, whose largest machine has 4 cores"),
    ([(64,), (4, 1)], None, 8, "8 cores and a GPU, but 0 fit on the cluster, whose largest machine with a GPU has 4"),
    ([], None, None, "1 workers of 1 cores, but 0 fit"),
])  # fmt: skip
def test_what_would_wait_for_ever_is_refused(machines, workers, cores, message):
    with pytest.raises(ClusterError, match=message):
        share([Machine(*one) for one in machines], workers, cores, 1)


@hypothesis.given(st.lists(st.tuples(st.integers(1, 70), st.integers(0, 8)), min_size=1, max_size=5),
                  st.integers(1, 9), st.integers(1, 3))  # fmt: skip
def test_the_least_number_finds_its_place(machines, least, per_gpu):
    """Put on the machines one after the other, as Ray does."""
    try:
        found = share([Machine(*one) for one in machines], (least, least + 3), None, per_gpu)
    except ClusterError:
        return
    placed, free = 0, [[cores, gpus * per_gpu] for cores, gpus in machines]
    for one in free:
        while one[0] >= found.cores and (one[1] > 0 or not found.gpus):
            one[0] -= found.cores
            one[1] -= 1
            placed += 1
    assert placed >= least


@pytest.mark.parametrize("given, expected", [(None, "cpu"), ("tpu,cpu", "tpu,cpu")])
def test_a_worker_without_gpu_takes_none(given, expected):
    """Though JAX has been imported before, with the job."""
    code = ("import jax; from autofocus_jax.batch.shares import Share, limit\n"
            "limit(Share(1, 1, 3, 0)); import os; print(jax.config.jax_platforms, os.environ['NPROC'])")  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"JAX_PLATFORMS": given} if given else {})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "3"]
