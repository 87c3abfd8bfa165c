"""Answers to uploads: decoding, the model thread, neighbors, and limits on time and number."""

import asyncio
import logging
from dataclasses import dataclass
from typing import NamedTuple

from epalm.ask.run_model import Model
from epalm.cache.formats.store_format import Features
from epalm.errors import UsageError
from epalm.model.checkpoints.adapter_io import LoadedRun
from epalm.serve.engine.decoders import Decoders
from epalm.serve.engine.jobs import Job, JobResult, OnStep, Question
from epalm.serve.engine.model_thread import BatchObserver, ModelThread
from epalm.serve.engine.neighbors import Neighbor, NeighborIndex
from epalm.serve.engine.thumbnails import png_url, thumbnail

logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """There are as many requests as may wait."""


class ClosingError(Exception):
    """The server is shutting down."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server.

    Attributes:
        upload_bytes: largest size of a request's body.
        request_seconds: time limit of a request.
        queue: largest number of requests in flight.
        batch_size: largest number of requests of a batch.
        decoders: number of decoding processes.
        decode_seconds: time limit for decoding one upload.
        max_new_tokens: largest number of tokens of an answer.
    """

    upload_bytes: int = 32_000_000
    request_seconds: float = 60.0
    queue: int = 64
    batch_size: int = 32
    decoders: int = 2
    decode_seconds: float = 20.0
    max_new_tokens: int = 256


class ShownNeighbor(NamedTuple):
    """A neighbor with a `data:` URL of its thumbnail; empty where there is none."""

    neighbor: Neighbor
    thumbnail: str


@dataclass
class Service:
    """A run that answers many requests at a time.

    Attributes:
        model: the run.
        limits: the limits.
        blind: the blind control, if there is one.
        index: samples to compare uploads with, if a store was given.
        on_batch: called after each batch with its size and seconds.
        active: number of requests in flight.
        closing: whether new requests are refused.
    """

    model: Model
    limits: Limits
    blind: LoadedRun | None = None
    index: NeighborIndex | None = None
    on_batch: BatchObserver = lambda _count, _seconds: None
    active: int = 0
    closing: bool = False

    def __post_init__(self) -> None:
        """Start the decoding processes and the model thread."""
        limits, encoder = self.limits, self.model.encoder
        self._decoders = Decoders(
            *(encoder.load, encoder.modality),
            count=limits.decoders,
            limit_seconds=limits.decode_seconds,
        )
        self._thumbnails = (
            Decoders(thumbnail, encoder.modality, count=1, limit_seconds=limits.decode_seconds)
            if self.index
            else None
        )
        self._thread = ModelThread(
            *(self.model, self.blind),
            batch_size=limits.batch_size,
            on_batch=lambda count, seconds: self.on_batch(count, seconds),
        )

    @property
    def healthy(self) -> bool:
        """Whether requests can be answered."""
        return self._thread.alive and not self.closing

    def waiting(self) -> int:
        """Number of jobs that wait for a batch."""
        return self._thread.waiting()

    def enter(self) -> None:
        """Take a place among the requests in flight; `leave` gives it back.

        Raises:
            QueueFullError: there is none.
            ClosingError: the server is shutting down.
        """
        if self.closing:
            raise ClosingError
        if self.active >= self.limits.queue:
            raise QueueFullError
        self.active += 1

    def keep(self) -> None:
        """Take a second place for a reply that is longer than its handler; never refused."""
        self.active += 1

    def leave(self) -> None:
        """Give a place back."""
        self.active -= 1

    async def features(self, content: bytes) -> tuple[str, Features]:
        """The SHA-256 of an upload, and its features (L, D).

        Raises:
            MediaError: it cannot be decoded.
        """
        decoded = await self._decoders.decode(content)
        result = await self._submit(Job(decoded.key, decoded.inputs, None))
        return decoded.key, result.features

    async def answer(
        self, content: bytes, question: Question, on_step: OnStep | None = None
    ) -> tuple[str, JobResult]:
        """The SHA-256 of an upload, and the answer to a question about it.

        Args:
            content: bytes of the sample's file.
            question: the question.
            on_step: called in another thread with each token.

        Raises:
            MediaError: the sample cannot be decoded.
            UsageError: the question is too long.
        """
        decoded = await self._decoders.decode(content)
        job = Job(decoded.key, decoded.inputs, question, on_step)
        return decoded.key, await self._submit(job)

    async def neighbors(self, features: Features, count: int) -> list[ShownNeighbor]:
        """The nearest samples of the store, with thumbnails.

        Raises:
            UsageError: no store was given.
        """
        if self.index is None or self._thumbnails is None:
            raise UsageError("this server has no store to compare with: start it with --store")
        found = await asyncio.to_thread(self.index.nearest, features, count)
        shown = []
        for neighbor in found:
            item = self.index.files.get(neighbor.key)
            pixels = await self._thumbnails.decode_item(item) if item else "no file"
            url = "" if isinstance(pixels, str) else await asyncio.to_thread(png_url, pixels)
            shown.append(ShownNeighbor(neighbor, url))
        return shown

    async def close(self) -> None:
        """Refuse new requests, finish those in flight, end threads and processes."""
        self.closing = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._decoders.close()
        if self._thumbnails:
            self._thumbnails.close()
        self._thread.close()

    async def _submit(self, job: Job) -> JobResult:
        return await asyncio.wrap_future(self._thread.submit(job))
