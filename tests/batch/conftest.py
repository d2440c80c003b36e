"""What tests of batch share: a model in this process, a folder of pictures, an S3 store on loopback."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")

from autofocus_jax.batch import job, plan
from autofocus_jax.batch.storage import resolved
from autofocus_jax.focus.buckets import holding
from autofocus_jax.inference.model import Model

CATEGORIES = ("ape", "bee", "cat")
BAD = 5  # the picture that is cut off


@pytest.fixture(scope="session")
def config(tiny_config):
    """The tiny detector's settings, with buckets for images of every shape."""
    return dataclasses.replace(tiny_config, buckets=holding(tiny_config.buckets, tiny_config.scales))


@pytest.fixture(scope="session")
def model(tiny_variables, config):
    return Model.compiled(config, tiny_variables, CATEGORIES)


@pytest.fixture(scope="session")
def contents():
    """Ten PNG files of several shapes, as bytes; number 5 is cut off."""
    random = np.random.default_rng(8)
    shapes = [(40 + 7 * number % 30, 50 + 11 * number % 40) for number in range(10)]
    images = [random.integers(0, 255, (*shape, 3), np.uint8) for shape in shapes]
    files = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    files[BAD] = files[BAD][:500]
    return files


@pytest.fixture(scope="session")
def pictures(contents, tmp_path_factory):
    """A folder of them, three in a folder below."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    for number, content in enumerate(contents):
        (folder / ("below" if number < 3 else "") / f"{number}.png").write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def make_job(config, tiny_variables):
    """make_job(plan, output, score) -> Job of the tiny detector."""

    def make(planned, output, score=0.0):
        return job.make_job(planned, resolved(str(output)), config, tiny_variables, CATEGORIES, score)

    return make


@pytest.fixture(scope="session")
def do_all(model, make_job):
    """do_all(input, output, size) does every piece in this process; returns what each came to."""

    def do(given, output, size=4, score=0.0):
        planned = plan.plan(str(given), size)
        made = make_job(planned, output, score)
        there = job.open_output(made, planned, size)
        return [job.do_piece(model, made, piece) for piece in planned.pieces if piece.number not in there]

    return do


class Store:
    """A pyarrow file system, and the Flaky before its server."""

    def __init__(self, store, flaky):
        self._store, self.flaky = store, flaky

    def __getattr__(self, name):
        return getattr(self._store, name)


class Flaky:
    """A web application that refuses every n-th request as S3 does when it is busy; 0 refuses none."""

    def __init__(self, application):
        self.application, self.every, self.asked, self.refused = application, 0, 0, 0

    def __call__(self, environ, start_response):
        self.asked += 1
        if self.every and self.asked % self.every == 0:
            self.refused += 1
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        return self.application(environ, start_response)


@pytest.fixture
def flaky(s3):
    """The Flaky before the store; it refuses nothing after the test."""
    yield s3.flaky
    s3.flaky.every = 0


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """An S3 store on loopback with the bucket "bucket"; the environment says where it is."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    fs = pytest.importorskip("pyarrow.fs")
    known = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        running.start()
        endpoint = "http://{}:{}".format(*running.get_host_and_port())
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        store = fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True)
        store.create_dir("bucket")
        running._server.app = Flaky(running._server.app)
        yield Store(store, running._server.app)
        running.stop()
