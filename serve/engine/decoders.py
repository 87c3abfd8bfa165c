"""Decoding of uploads in processes that can be killed, several at a time."""

import asyncio
import logging
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from epalm.ask.sample_decoder import SampleDecoder
from epalm.errors import MediaError
from epalm.extract.decoding.decode_batch import Input
from epalm.extract.decoding.sample_loader import Loader
from epalm.serve.engine.uploads import uploaded_file
from epalm.tasks.types import MediaItem, Modality

logger = logging.getLogger(__name__)

NOUNS: dict[Modality, str] = {"image": "image", "video": "video", "audio": "audio clip"}
"""Modality -> noun of messages."""


class DecodedUpload(NamedTuple):
    """An upload as the encoder's input, with the SHA-256 of its bytes."""

    key: str
    inputs: Input


class Decoders:
    """A fixed number of decoding processes; one that dies is replaced."""

    def __init__(
        self, load: Loader, modality: Modality, *, count: int, limit_seconds: float
    ) -> None:
        """Start the processes.

        Args:
            load: decodes one sample, as the encoder's `load`.
            modality: modality of the samples.
            count: number of processes.
            limit_seconds: time limit for a sample.
        """
        self._load, self._modality, self._seconds = load, modality, limit_seconds
        self._free: queue.SimpleQueue[SampleDecoder] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(self._start())
        self._count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decode")

    async def decode(self, content: bytes) -> DecodedUpload:
        """The encoder's input from the bytes of a file.

        Raises:
            MediaError: it cannot be decoded.
        """
        return await asyncio.wrap_future(self._threads.submit(self._decode_upload, content))

    async def decode_item(self, item: MediaItem) -> Input | str:
        """The input from a file, or the reason why there is none."""
        return await asyncio.wrap_future(self._threads.submit(self._decode, item))

    def close(self) -> None:
        """Wait for what is being decoded, and end the processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _ in range(self._count):
            self._free.get().close()

    def _decode_upload(self, content: bytes) -> DecodedUpload:
        with uploaded_file(content, self._modality) as item:
            decoded = self._decode(item)
        if isinstance(decoded, str):
            reason = decoded.removeprefix(f"{item.path.name}: ")
            noun = NOUNS[self._modality]
            raise MediaError(
                f"the {noun} cannot be decoded: {reason.replace(str(item.path), noun)}"
            )
        return DecodedUpload(item.key, decoded)

    def _decode(self, item: MediaItem) -> Input | str:
        decoder = self._free.get()
        try:
            return decoder.decode([item])[0]
        except (MediaError, RuntimeError):
            # A process that was killed before its first sample, or failed in an unknown way.
            logger.exception("a decoding process is replaced")
            decoder.close()
            decoder = self._start()
            return decoder.decode([item])[0]
        finally:
            self._free.put(decoder)

    def _start(self) -> SampleDecoder:
        return SampleDecoder(self._load, self._modality, isolated=True, limit_seconds=self._seconds)
