"""Small S3 servers of one bucket that keep, or break, what a store rests on: real HTTP on loopback, objects in memory.

`odd_server` takes the manner: ``sound``; ``ignores`` the header If-None-Match; ``races``: looks whether a name is free
and writes in two steps, between which another does the same, so that the first two of a name are told that it was;
``unknown``: answers 501 to the header, as some servers do; ``loses``: does the first conditional put and breaks the
connection instead of answering; ``conflicts``: answers 409 to the first conditional put and does nothing; ``denies``:
403 with an answer that repeats what a client must not show.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.object_store import SECRET, environment

_LIST = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'


@contextmanager
def odd_server(manner: str) -> Iterator[dict[str, str]]:
    """The environment by which a new server is reached; any bucket will do."""
    objects: dict[str, bytes] = {}
    lock, first, asked = threading.Lock(), threading.Event(), Counter[str]()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", code: str = "") -> None:
            body = f"<Error><Code>{code}</Code></Error>".encode() if code else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"e"')
            self.send_header("Last-Modified", "Sun, 29 Nov 2026 12:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            if "list-type" in self.path:
                self.answer(200, _LIST.encode())
            elif manner == "denies":
                told = f"<Error><Code>SignatureDoesNotMatch</Code><Signed>{SECRET}</Signed></Error>"
                self.answer(403, told.encode())
            elif self.path in objects:
                self.answer(200, objects[self.path])
            else:
                self.answer(404, code="NoSuchKey")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:  # DeleteObjects
            key = self.rfile.read(int(self.headers["Content-Length"])).decode().split("<Key>")[1].split("</Key>")[0]
            objects.pop(f"{self.path.partition('?')[0].rstrip('/')}/{key}", None)
            deleted = f"<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>"
            self.answer(200, f'<?xml version="1.0"?>{deleted}'.encode())

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            conditional = self.headers.get("If-None-Match") == "*" and manner != "ignores"
            if conditional and manner == "unknown":
                self.answer(501, code="NotImplemented")
                return
            if conditional and manner in ("loses", "conflicts") and not first.is_set():
                first.set()
                if manner == "conflicts":
                    self.answer(409, code="ConditionalRequestConflict")
                else:
                    objects[self.path] = body
                    self.close_connection = True
                return
            with lock:
                asked[self.path] += conditional
                late = manner != "races" or asked[self.path] > 2
                if conditional and late and self.path in objects:
                    self.answer(412, code="PreconditionFailed")
                    return
                objects[self.path] = body
            self.answer(200)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield environment(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
