"""A real S3-compatible server on loopback for tests: moto's, in a process of its own.

    python -m tests.object_store [SECONDS]    prints its port and serves until it is killed; each answer so much later

moto looks whether a key is there and then writes it, in two steps, so that two of its threads may both find the name
free (in 400 rounds of eight puts at once it was not seen). Here it answers one request at a time; so its conditional
puts are atomic, as those of an object store are.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECRET = "a-secret-that-must-not-show"


@contextmanager
def object_store(bucket: str = "results", *, delay_s: float = 0.0) -> Iterator[dict[str, str]]:
    """The environment by which a new server with an empty bucket is reached.

    Args:
        bucket: its name.
        delay_s: by which each answer is late, as over a network; requests wait side by side.
    """
    command = [sys.executable, "-m", "tests.object_store", str(delay_s)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        make_bucket(endpoint, bucket)
        yield environment(endpoint)
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def environment(endpoint: str) -> dict[str, str]:
    """The usual variables."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


def make_bucket(endpoint: str, bucket: str) -> None:
    """Makes a bucket, as its owner would."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")).close()


def serve(delay_s: float) -> None:
    """Serves; prints its port first."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").disabled = True
    application, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def serial(environ, start_response):
        time.sleep(delay_s)
        with one_at_a_time:
            return [b"".join(application(environ, start_response))]

    server = make_server("127.0.0.1", 0, serial, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(float(sys.argv[1]))
