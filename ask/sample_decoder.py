"""Decoding of a few samples at a time, in this process or in one that can be killed."""

import functools
import logging
import time
from collections.abc import Sequence
from typing import Self

from epalm.errors import MediaError
from epalm.extract.decoding import decode_batch as batch_module
from epalm.extract.decoding.decode_batch import (
    HARD_LIMIT,
    DecodeRequest,
    Input,
    decode_sample,
    decode_with_watchdog,
    timeout_reason,
)
from epalm.extract.decoding.decode_pool import IMPORTS, LIMIT_SECONDS, BatchWorker, start_worker
from epalm.extract.decoding.sample_loader import Loader
from epalm.tasks.types import MediaItem, Modality

logger = logging.getLogger(__name__)


class SampleDecoder:
    """Decodes view 0 of single samples; a sample that cannot be decoded is returned as its reason.

    A decoding process that dies, or that is killed since it takes too long, is replaced. Not for
    several threads at once.
    """

    def __init__(
        self,
        load: Loader,
        modality: Modality,
        *,
        isolated: bool = False,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        """Start the process, if there is to be one.

        Args:
            load: decodes one sample, as the encoder's `load`.
            modality: modality of the samples.
            isolated: decode in a process of its own; a decoder that crashes then does not end this
                one. Without it the time limit holds in the main thread only.
            limit_seconds: time limit for a sample.
        """
        self._load = load
        self._seconds = limit_seconds
        self._imports = (batch_module.__name__, IMPORTS[modality])
        self._worker = self._start() if isolated else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._worker:
            self._worker.end()

    def decode(self, items: Sequence[MediaItem]) -> list[Input | str]:
        """One input of the encoder for each sample, or the reason why there is none.

        Raises:
            MediaError: no process can be started.
        """
        return [self._decode(DecodeRequest(0, 0, item)) for item in items]

    def _decode(self, request: DecodeRequest) -> Input | str:
        if self._worker is None:
            return decode_sample(request, load=self._load, seconds=self._seconds)
        started = time.monotonic()
        self._worker.send([request])
        loaded = self._worker.receive()
        if loaded is None:
            return self._replace_worker(request, time.monotonic() - started)
        if loaded.inputs is None:
            return loaded.errors[request.item.key]
        decoded: Input = loaded.inputs[0]
        return decoded

    def _replace_worker(self, request: DecodeRequest, seconds: float) -> str:
        assert self._worker is not None
        code = self._worker.exit_code()
        logger.warning("a decoding process ended (%d): it is replaced", code)
        self._worker.end()
        self._worker = self._start()
        late = seconds >= HARD_LIMIT * self._seconds
        reason = timeout_reason(self._seconds) if late else f"the decoder crashed ({code})"
        return f"{request.item.path.name}: {reason}"

    def _start(self) -> BatchWorker:
        decode = functools.partial(decode_with_watchdog, load=self._load, seconds=self._seconds)
        return start_worker(decode, self._imports)


def require_inputs(decoded: Sequence[Input | str]) -> list[Input]:
    """The decoded inputs, if all samples could be decoded.

    Raises:
        MediaError: names each sample that could not be decoded.
    """
    reasons = [result for result in decoded if isinstance(result, str)]
    if reasons:
        raise MediaError("; ".join(dict.fromkeys(reasons)))
    return [result for result in decoded if not isinstance(result, str)]
