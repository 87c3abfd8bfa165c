"""An object store in memory, as a file system of fsspec: latency, errors, stale listings."""

import errno
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, TypeVar

import fsspec
from fsspec.spec import AbstractFileSystem

from bench.support.simulation.virtual_time import VirtualTime

T = TypeVar("T")

SCHEME = "tos"
"""A scheme that stores accept and that no installed package implements."""

LATENCY = {"HEAD": 0.02, "GET": 0.03, "PUT": 0.05, "DELETE": 0.03, "LIST": 0.08}
"""Median seconds of a request; a LIST for each page."""

SPREAD = 0.5
"""Standard deviation of the logarithm of the latency."""

BYTES_PER_SECOND = 100e6

PAGE, PARALLEL = 1000, 128
"""Objects per page of a listing, and requests of one call that are in flight at once."""


@dataclass(frozen=True)
class BucketFaults:
    """What goes wrong in an object store.

    Attributes:
        errors: fraction of requests that fail with 503; half of these have taken effect.
        slow: fraction of requests that are slow.
        slow_factor: factor of the time of slow requests.
        stale: fraction of listings that show an earlier state.
        stale_seconds: largest age of that state.
    """

    errors: float = 0.0
    slow: float = 0.0
    slow_factor: float = 100.0
    stale: float = 0.0
    stale_seconds: float = 60.0


@dataclass(frozen=True)
class StoredObject:
    """A version of an object; `data` is None once it is deleted."""

    time: float
    data: bytes | None
    md5: str


class Unavailable(OSError):
    """503, as s3fs raises it."""

    def __init__(self) -> None:
        super().__init__(errno.EBUSY, "503 SlowDown: Please reduce your request rate")


class BucketService:
    """The objects, and what was requested of them."""

    def __init__(self, clock: VirtualTime, faults: BucketFaults, seed: int) -> None:
        self.clock, self.faults = clock, faults
        self.requests: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors = self.stale_listings = 0
        self._objects: dict[str, list[StoredObject]] = {}
        self._random = Random(seed)

    def request(self, kind: str, effect: Callable[[], T], *, size: int = 0, count: int = 1) -> T:
        """Answer a request after its latency; its effect takes place somewhere in between."""
        random, faults = self._random, self.faults
        self.requests[kind] += count
        seconds = LATENCY[kind] * random.lognormvariate(0, SPREAD) * -(-count // PARALLEL)
        seconds += size / BYTES_PER_SECOND
        seconds *= faults.slow_factor if random.random() < faults.slow else 1
        fails, answer_lost = random.random() < faults.errors, random.random() < 0.5
        before = seconds * random.random()
        self.seconds[kind].append(seconds)
        self.clock.sleep(before)
        if fails and not answer_lost:
            self._fail()
        result = effect()
        self.clock.sleep(seconds - before)
        if fails:
            self._fail()
        return result

    def _fail(self) -> None:
        self.errors += 1
        raise Unavailable

    def put(self, path: str, data: bytes, *, new: bool = False) -> None:
        """Write an object; FileExistsError if it must be new and is not."""
        if new and self.data(path) is not None:
            raise FileExistsError(path)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        versions = self._objects.setdefault(path, [])
        versions.append(StoredObject(self.clock.now, data, md5))
        del versions[:-2]

    def data(self, path: str) -> bytes | None:
        """Content of an object; None if there is none."""
        versions = self._objects.get(path)
        return versions[-1].data if versions else None

    def get(self, path: str) -> bytes:
        """Content of an object; FileNotFoundError if there is none."""
        data = self.data(path)
        if data is None:
            raise FileNotFoundError(path)
        return data

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects."""
        for path in paths:
            if versions := self._objects.get(path):
                versions.append(StoredObject(self.clock.now, None, ""))

    def listing(self, prefix: str) -> dict[str, StoredObject]:
        """The objects below a prefix, now or, if the listing is stale, some time ago."""
        time = self.clock.now
        if self._random.random() < self.faults.stale:
            self.stale_listings += 1
            time -= self._random.uniform(0, self.faults.stale_seconds)
        found = {}
        for path, versions in self._objects.items():
            if path.startswith(f"{prefix}/"):
                seen = [version for version in versions if version.time <= time]
                if seen and seen[-1].data is not None:
                    found[path] = seen[-1]
        return found

    def objects(self) -> Mapping[str, bytes]:
        """Every object."""
        paths = ((path, self.data(path)) for path in self._objects)
        return {path: data for path, data in paths if data is not None}


class SimulatedBucket(AbstractFileSystem):  # type: ignore[misc]
    """The part of fsspec's interface that stores use, over `service`."""

    protocol = SCHEME
    cachable = False
    service: ClassVar[BucketService]

    def info(self, path: str, **_: object) -> dict[str, Any]:
        """Size of an object."""
        service = self.service
        data = service.request("HEAD", lambda: service.get(path))
        return {"name": path, "size": len(data), "type": "file"}

    def cat_file(self, path: str, *_: object, **__: object) -> bytes:
        """Content of an object."""
        service = self.service
        size = len(service.data(path) or b"")
        return service.request("GET", lambda: service.get(path), size=size)

    def cat(self, path: Sequence[str], *_: object, **__: object) -> dict[str, Any]:
        """Content of several objects, or the exception of each."""
        service = self.service

        def read() -> dict[str, Any]:
            contents = {one: service.data(one) for one in path}
            return {
                one: FileNotFoundError(one) if data is None else data
                for one, data in contents.items()
            }

        try:
            return service.request("GET", read, count=len(path))
        except Unavailable as error:  # one of them, not all
            return read() | {path[0]: error}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
        """Write an object."""
        service, new = self.service, mode == "create"
        service.request("PUT", lambda: service.put(path, value, new=new), size=len(value))

    def find(self, path: str, *_: object, **__: object) -> dict[str, dict[str, Any]]:
        """Every object below a prefix, with its MD5 as S3 gives it."""
        service = self.service
        found = service.request("LIST", lambda: service.listing(path))
        service.requests["LIST"] += max(-(-len(found) // PAGE) - 1, 0)
        return {
            name: {"size": len(one.data or b""), "ETag": f'"{one.md5}"', "type": "file"}
            for name, one in found.items()
        }

    def rm(self, path: Sequence[str], *_: object, **__: object) -> None:
        """Delete objects."""
        service = self.service
        service.request("DELETE", lambda: service.delete(path))

    def get_file(self, rpath: str, lpath: str, **_: object) -> None:
        """Copy an object to a local file."""
        data = self.cat_file(rpath)
        with open(lpath, "wb") as file:  # noqa: PTH123
            file.write(data)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Do nothing: nothing is cached."""


def connect(service: BucketService) -> None:
    """Let the URLs of `SCHEME` lead to a service."""
    SimulatedBucket.service = service
    fsspec.register_implementation(SCHEME, SimulatedBucket, clobber=True)
