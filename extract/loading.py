"""Decoded batches from worker processes: a medium that cannot be decoded arrives as its reason."""

import multiprocessing
import signal
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from epalm.errors import MediaError
from epalm.extract.encoder import Loader
from epalm.tasks.records import MediaItem

PREFETCH_BATCHES = 2
"""Decoded batches that wait per worker; bounds the memory held in flight."""


class Request(NamedTuple):
    """One medium to decode and where its vectors go: row within the shard, and view."""

    row: int
    view: int
    item: MediaItem


@dataclass(frozen=True)
class LoadedBatch:
    """What became of some requests.

    Attributes:
        rows: row within the shard of each decoded medium.
        views: its view.
        inputs: (B, ...) the decoded media, in the order of `rows`; None if there is none.
        errors: key -> reason, for media that cannot be decoded.
        media: how many media have their view 0 among the requests.
    """

    rows: list[int]
    views: list[int]
    inputs: Tensor | None
    errors: dict[str, str]
    media: int


class _Decoder(Dataset[tuple[Request, Tensor | str]]):
    """Decodes the request it is indexed with, so that no worker holds the list of all media."""

    def __init__(self, load: Loader) -> None:
        self.load = load

    def __getitem__(self, request: Request) -> tuple[Request, Tensor | str]:
        try:
            return request, self.load(request.item, request.view)
        except MediaError as error:
            return request, str(error)


def load_batches(
    batches: Iterable[Sequence[Request]], load: Loader, *, workers: int
) -> Generator[LoadedBatch, None, None]:
    """Decode batch after batch, in order.

    Args:
        batches: the requests of each batch.
        load: decodes one medium.
        workers: number of processes; 0 decodes in this one.

    Yields:
        One batch per sequence of requests.

    Raises:
        MediaError: a worker process died.
    """
    loader: DataLoader[tuple[Request, Tensor | str]] = DataLoader(
        _Decoder(load),
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=_collate,
        num_workers=workers,
        prefetch_factor=PREFETCH_BATCHES if workers else None,
        multiprocessing_context=_context() if workers else None,
        worker_init_fn=_start_worker,
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MediaError(
            f"a decoding process died ({error}); finished shards are kept: run the same command "
            "again, with --workers 0 if it happens twice"
        ) from error


def _context() -> BaseContext:
    """Workers come from a clean process: a fork of this one could inherit locks of its threads.

    Where the system can, that process imports what decoding needs once for all workers.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["epalm.extract.loading", "epalm.extract.preprocess"])
    return context


def _start_worker(_worker: int) -> None:
    """Leave Ctrl-C to the parent, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _collate(loaded: list[tuple[Request, Tensor | str]]) -> LoadedBatch:
    good = [(request, tensor) for request, tensor in loaded if isinstance(tensor, Tensor)]
    errors = {request.item.key: reason for request, reason in loaded if isinstance(reason, str)}
    return LoadedBatch(
        rows=[request.row for request, _ in good],
        views=[request.view for request, _ in good],
        inputs=torch.stack([tensor for _, tensor in good]) if good else None,
        errors=errors,
        media=sum(request.view == 0 for request, _ in loaded),
    )
