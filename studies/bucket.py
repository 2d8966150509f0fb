"""A place in an S3-compatible object store: objects of a bucket below a prefix.

An object appears whole or not at all, and a listing shows what was put before it, so what a store needs beyond a put
is one thing: a put that fails where the name is taken (``If-None-Match: *``). `Bucket.prove` tries whether the server
keeps that, with eight puts at once; one that doesn't is refused. A put whose answer was lost is repeated and may then
find the name taken by itself; so where a name is taken, what lies there is compared.

Endpoint, region and credentials come from the usual variables (``AWS_ENDPOINT_URL``, ``AWS_REGION``,
``AWS_ACCESS_KEY_ID`` …), are read by obstore and never shown: what a server answers may repeat them, so a message holds
its status and error code alone. Requests that fail for a while are repeated (`RETRY`).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from core.errors import InputError, Problem, StoreError
from studies.copies import Copies, cache_folder

T = TypeVar("T")
S = TypeVar("S")

AT_ONCE = 32
"""Requests that one process makes at a time."""
RIVALS = 8
"""Puts of one name at once by which a server is tried."""
CONFLICTS = 6
"""Times that a conditional put is tried where neither it nor another has come to be; 1.6 s of waiting in all."""
RETRY = {
    "max_retries": 8,
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
    "retry_timeout": timedelta(seconds=120),
}
"""Of requests that get no answer or a status of 5xx: at most some 20 s of waiting."""
_CLIENT = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "15m"}
"""A stalled connection ends after a minute; a large checkpoint may take longer than that as a whole."""
_ADDRESS = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,62})((?:/[A-Za-z0-9._=+-]+)*)/?")


class _UnansweredError(StoreError):
    """Whether the request was done is not known."""


class Bucket:
    """Objects below a prefix; see `studies.place.Place`."""

    def __init__(self, address: str) -> None:
        """Of ``s3://BUCKET/PREFIX``; nothing is asked of the server yet.

        Raises:
            InputError: where that is no such address.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None or {".", ".."} & set(match[2].split("/")):
            shown = "one with other signs (never put credentials into it)" if "@" in address else repr(address)
            rule = "must be s3://BUCKET/PREFIX of letters, digits, '.', '_', '-', '=' and '+'"
            raise InputError([Problem("--store", f"{rule}, got {shown}")])
        self._bucket, self._prefix = match[1], match[2].strip("/")
        self._proved = False
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._copies = Copies(cache_folder(), f"{endpoint} {self.name}")

    @property
    def name(self) -> str:
        """Its address."""
        return "/".join(filter(None, (f"s3://{self._bucket}", self._prefix)))

    @property
    def way_out(self) -> str:
        """What must hold for this place to work."""
        return f"{self._copies.root} holds copies of {self.name} and must be a directory that can be written"

    def where(self, name: str) -> str:
        """The address of an object."""
        return f"{self.name}/{name}"

    @cached_property
    def _client(self) -> Any:
        with self._refusals(""):
            variables = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
            return _client(self._bucket, self._prefix, variables)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket")

    # --- what a store rests on ---

    def prove(self) -> None:
        """Tries whether of several conditional puts exactly one wins, and a later one loses; once for this object.

        Raises:
            StoreError: where the server does not keep that, or refuses.
        """
        if self._proved:
            return
        name = f".probe-{secrets.token_hex(12)}"
        contents = [b"%d" % number for number in range(RIVALS)]
        firsts = self.map(lambda content: self.publish_new(name, content), contents)
        won = [content for content, first in zip(contents, firsts, strict=True) if first]
        kept = len(won) == 1 and not self.publish_new(name, b"late") and self.read(name) == won[0]
        self.remove(name)
        if not kept:
            rule = "the server does not keep a conditional put (If-None-Match: *) from replacing what is there"
            message = f"{self.name}: {rule}, so results could be lost"
            raise StoreError(f"{message}; use an object store that does, or a directory (--store DIR)")
        self._proved = True

    def publish_new(self, name: str, data: bytes) -> bool:
        """Publishes an object under a name that must be free; False, and nothing changed, where it is taken."""
        refusal = StoreError(f"{self.where(name)}: it is there and it isn't; see what removes objects of this store")
        for again in range(CONFLICTS):
            try:
                with self._refusals(name):
                    obstore.put(self._client, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                pass
            except _UnansweredError as error:  # the put may have been done
                refusal = error
            else:
                return True
            try:
                return self.read(name) == data
            except FileNotFoundError:  # of two puts at once each may be told of a conflict (409) before any is there
                time.sleep(0.05 * 2**again)
        raise refusal

    def write(self, name: str, data: bytes) -> None:
        """Puts an object."""
        with self._refusals(name):
            obstore.put(self._client, name, data)

    def read(self, name: str) -> bytes:
        """The content of an object."""
        with self._refusals(name):
            return bytes(obstore.get(self._client, name).bytes())

    def names(self, folder: str = "") -> Iterator[str]:
        """Names of all objects below a folder."""
        with self._refusals(folder):
            for objects in obstore.list(self._client, folder or None, chunk_size=1000):
                for each in objects:
                    if (
                        name := each["path"].removeprefix(folder).lstrip("/")
                    ):  # empty: what a console makes a "folder" of
                        yield name

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            with self._refusals(name):
                obstore.head(self._client, name)
        except FileNotFoundError:
            return False
        return True

    def remove(self, *names: str) -> None:
        """Removes objects, as far as they are there: a thousand with one request."""
        with self._refusals(names[0] if len(names) == 1 else ""):
            if names:
                obstore.delete(self._client, list(names))

    def abandoned(self, folder: str, before: float) -> Iterator[str]:  # noqa: ARG002 - there are none
        """None: what was not put as a whole is no object."""
        yield from ()

    # --- on this machine ---

    def local(self, name: str, *, size: int | None = None, digest: str | None = None) -> Path:
        """A copy; see `studies.copies`. One of unknown digest is fetched anew each time."""
        if size is not None and digest is not None:
            fetch = partial(self._fetch, name)
            return self._copies.get(name, size=size, digest=digest, fetch=fetch, where=self.where(name))
        path = self._copies.root / name
        with self._copies.passing() as fresh:
            self._fetch(name, fresh)
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.replace(path)
        return path

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """A copy that is gone at the end."""
        with self._copies.passing() as path:
            self._fetch(name, path)
            yield path

    def _fetch(self, name: str, path: Path) -> None:
        with self._refusals(name), path.open("wb") as file:
            for piece in obstore.get(self._client, name):
                file.write(piece)

    @contextmanager
    def replaced(self, name: str) -> Iterator[Path]:
        """A path to write; put when it is written."""
        with self._copies.passing() as path:
            yield path
            with self._refusals(name):
                obstore.put(self._client, name, path)

    def scratch(self, name: str) -> Path:
        """A directory on this machine, beside the copies."""
        path = self._copies.root / "scratch" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def map(self, function: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """Several at a time: a request takes ten times longer to answer than to make."""
        found = list(items)
        return list(self._pool.map(function, found)) if len(found) > 1 else [function(item) for item in found]

    @contextmanager
    def _refusals(self, name: str) -> Iterator[None]:
        """What a server refuses, as an error of ours that repeats nothing of its answer but status and code."""
        where = self.where(name).rstrip("/")
        try:
            yield
        except AlreadyExistsError:
            raise
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._refused(where, str(error)) from None
            raise FileNotFoundError(errno.ENOENT, "no such object", where) from None
        except BaseError as error:
            raise self._refused(where, str(error)) from None

    def _refused(self, where: str, answer: str) -> StoreError:
        status = re.search(r"status code: (\d+)", answer)
        code = re.search(r"<Code>(\w{1,60})</Code>", answer)
        said = " ".join(match[1] for match in (status, code) if match)
        if "NoSuchBucket" in answer:
            return StoreError(f"{where}: there is no bucket {self._bucket}; create it, or mend --store")
        if "//169.254." in answer:  # where a machine of the cloud would find its role
            return StoreError(f"{where}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if "builder error" in answer:
            return StoreError(f"{where}: the endpoint is plain http; set AWS_ALLOW_HTTP=true if that is meant")
        if status and status[1] in ("301", "307", "400") and (code is None or code[1] != "NoSuchBucket"):
            return StoreError(
                f"{where}: the server refuses the request ({said}); check AWS_REGION and AWS_ENDPOINT_URL"
            )
        if status and status[1] in ("401", "403"):
            return StoreError(f"{where}: access is refused ({said}); check the credentials and what they may do")
        if status and status[1] == "501":
            return StoreError(f"{where}: the server does not know the request ({said}); use another, or a directory")
        if status:
            return _UnansweredError(f"{where}: the server fails ({said}), also when asked again; try later")
        if "HTTP error" in answer:
            return _UnansweredError(f"{where}: the server does not answer; check AWS_ENDPOINT_URL and the network")
        return StoreError(f"{where}: the server does not answer as S3 does; check AWS_ENDPOINT_URL")


@lru_cache(maxsize=8)
def _client(bucket: str, prefix: str, variables: tuple[tuple[str, str], ...]) -> Any:
    """One client, with its connections, for each place and environment."""
    allowed = dict(variables).get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")  # options displace it
    options = {"client_options": {**_CLIENT, "allow_http": allowed}, "retry_config": RETRY, "conditional_put": "etag"}
    return S3Store(bucket, prefix=prefix or None, **options)
