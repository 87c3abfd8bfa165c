"""An encoder process of an engine: it loads the encoder once and encodes the shards it is given.

It does what a process of `epalm-extract --shard i/n` does, with the same functions, except that it
is given the numbers of its shards and reports to the program instead of a terminal. It writes its
shards itself, so no features are sent to the program.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from epalm.errors import CacheMismatchError
from epalm.extract.engines.worker_messages import (
    OpenedStore,
    TaskReport,
    WorkerProgress,
    WorkerSetup,
)


class ShardWorker:
    """Opens the store, then encodes shards; `progress` may be called from another thread."""

    def __init__(self, setup: WorkerSetup) -> None:
        """Import what encoding needs; nothing that a user could have got wrong is used yet."""
        if Path(setup.folder).is_dir():  # for names of modules, which are searched there
            os.chdir(setup.folder)
        self.setup = setup
        self._messages = _Messages()
        self._lock = threading.Lock()
        self._task, self._samples = 0, 0

    def open(self, known: OpenedStore | None) -> OpenedStore:
        """List the samples, load the encoder and open the store.

        Args:
            known: the store as another process has opened it. None creates it, adds the rows of new
                samples, and finds the shards whose files have changed.

        Raises:
            EpalmError: as `epalm-extract`.
            CacheMismatchError: this process sees other samples than the one that opened the store.
        """
        self._messages.collect(logging.INFO if known is None else logging.WARNING)
        from epalm.extract.decoding.decode_pool import DecodePool
        from epalm.extract.planning import changed_shards, extraction_plan, store_rows
        from epalm.extract.planning.extract_inputs import read_inputs
        from epalm.extract.planning.shard_jobs import absent_rows

        options = self.setup.options if known is None else replace(self.setup.options, fresh=False)
        inputs = read_inputs(options, media=self.setup.media)
        if "://" not in inputs.out:
            inputs = replace(inputs, out=str(Path(self.setup.folder) / inputs.out))
        self.pool = DecodePool(
            options.workers or 1, inputs.items[0].modality if inputs.items else "image"
        )
        plan = extraction_plan.make_plan(inputs)
        if known is None:
            target = store_rows.open_target(plan, options)
        else:
            target = store_rows.join_target(plan, known.location)
        self.target = target
        opened = OpenedStore(
            location=target.store.location,
            store_format=plan.store_format,
            digest=target.store.generations.digests[-1],
            absent=len(absent_rows(target.items, range(len(target.items)))),
            unit=plan.unit,
            device=extraction_plan.choose_device(options),
            reencode={}
            if known
            else changed_shards.shards_to_reencode(target, options.changed_media),
        )
        if known:
            _check_same(opened, known)
        return opened

    def encode(self, shards: Sequence[int], reencode: Mapping[int, Sequence[int]]) -> TaskReport:
        """Encode and write shards, one while the previous one is written.

        Shards that are finished meanwhile are skipped.

        Args:
            shards: numbers of the shards.
            reencode: those to encode again -> rows within each that keep their features.

        Raises:
            EpalmError: as `epalm.extract.run_extraction.extract`.
        """
        from epalm.devices import peak_device_memory
        from epalm.extract.planning.shard_jobs import jobs_of
        from epalm.extract.run_extraction import encode_jobs, memory_advice
        from epalm.media.decode_damage import collect_damage
        from epalm.system_memory import peak_memory

        started = time.monotonic()
        with self._lock:
            self._task, self._samples = self._task + 1, 0
        plan, store, items = self.target.plan, self.target.store, self.target.items
        missing = {shard for shard in shards if not store.has_shard(shard)}
        jobs = jobs_of(store, items, missing=missing, reencode=reencode)
        encoded = sum(len(job.rows) for job in jobs)
        with collect_damage() as damage, memory_advice():
            encode_jobs(
                plan.encoder,
                items,
                store,
                jobs=jobs,
                options=plan.run_options,
                root=plan.root,
                tick=self._tick,
                pool=self.pool,
            )
        return TaskReport(
            encoded=encoded,
            failed=sum(len(store.commit_record(shard).errors) for shard in shards),
            seconds=time.monotonic() - started,
            memory=peak_memory(),
            device_memory=peak_device_memory(),
            damage=list(damage),
        )

    def progress(self) -> WorkerProgress:
        """The progress of the current task, and the messages since the last call."""
        with self._lock:
            return WorkerProgress(self._task, self._samples, self._messages.take())

    def _tick(self, count: int, note: str | None = None) -> None:
        del note
        with self._lock:
            self._samples += count


class _Messages(logging.Handler):
    """Keeps the records of `epalm.*` for the program, whose display they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[tuple[int, str]] = []

    def collect(self, level: int) -> None:
        """Receive the records from a level up."""
        logger = logging.getLogger("epalm")
        logger.handlers, logger.propagate = [self], False
        logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.levelno, self.format(record)))

    def take(self) -> list[tuple[int, str]]:
        """The messages since the last call."""
        lines, self._lines = self._lines, []
        return lines


def _check_same(opened: OpenedStore, known: OpenedStore) -> None:
    """Refuse to encode with another list of samples than the process that opened the store."""
    if opened.digest == known.digest and opened.absent == known.absent:
        return
    raise CacheMismatchError(
        f"{os.uname().nodename} sees other samples or settings than the machine that opened "
        f"{known.location} ({opened.absent} of its samples are absent, expected {known.absent}): "
        "give every machine of the cluster the same dataset, at the same path"
    )
