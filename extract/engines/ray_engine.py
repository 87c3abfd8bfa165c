"""Extraction on a Ray cluster: what `epalm-extract --engine ray` does.

The program itself needs neither torch nor a GPU nor the samples. It hands out the numbers of shards
to encoder processes, which write the shards themselves, and it replaces processes that are lost.
Which shards are done is known from the store alone, so a run can be stopped or killed at any moment
and resumed by the same command, with or without an engine.
"""

import time
from dataclasses import replace
from pathlib import Path

from epalm.cache.records.extraction_log import ExtractionLogEntry, log_extraction
from epalm.extract.engines.ray_cluster import (
    WorkerResources,
    check_engine,
    choose_resources,
    connected,
)
from epalm.extract.engines.ray_run import RayRun, open_store
from epalm.extract.engines.ray_workers import RayWorkers
from epalm.extract.engines.worker_messages import WorkerSetup
from epalm.extract.planning.extract_inputs import check_options, default_workers
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.extraction_result import (
    ExtractionReport,
    FilledStore,
    RunLabels,
    retry_command,
)
from epalm.extract.reports.incomplete_media import incomplete_listed
from epalm.tasks.types import MediaSet


def fill_store_on_ray(options: ExtractOptions, media: MediaSet | None = None) -> FilledStore:
    """Encode what a store lacks on a Ray cluster.

    Args:
        options: the options of the command, with --engine.
        media: the samples; None to load those of `options.dataset`.

    Raises:
        EpalmError: as without an engine.
        Stopped: Ctrl-C or a termination signal; the same call resumes.
        UnfinishedStoreError: shards are missing, since every process that had them was lost.
    """
    check_engine(options)
    check_options(options)
    with connected(options.engine) as ray:
        total = ray.cluster_resources()
        resources = choose_resources(options, total)
        setup = WorkerSetup(_absolute(options, resources), media, str(Path.cwd()))
        workers = RayWorkers(ray, setup, resources)
        try:
            run = RayRun(workers, open_store(workers), options.engine_workers)
            started = time.monotonic()
            with incomplete_listed(run.opened.location):
                run.encode(quiet=options.quiet)
            seconds = time.monotonic() - started
        finally:
            workers.end()
    return _finish(run, options, seconds)


def _finish(run: RayRun, options: ExtractOptions, seconds: float) -> FilledStore:
    """Mark the store as finished, and write what the run required into its log."""
    store, opened, reports = run.store, run.opened, run.reports
    failed = store.finish()
    work = ExtractionLogEntry(
        encoded=run.samples,
        seconds=round(sum(report.seconds for report in reports), 1),
        memory=max((report.memory for report in reports), default=0),
        device=opened.device,
        device_memory=max((report.device_memory for report in reports), default=0),
    )
    log_extraction(opened.location, work)
    report = ExtractionReport(
        records=store.spec.count, encoded=run.samples, failed=failed, missing=0, seconds=seconds
    )
    out = options.out or opened.location
    labels = RunLabels(out, store.spec, opened.unit, retry=retry_command(out, options))
    return FilledStore(report, labels, store)


def _absolute(options: ExtractOptions, resources: WorkerResources) -> ExtractOptions:
    """The options of an encoder process: local paths are absolute, as its folder may be another."""
    device = "cuda" if resources.gpus else "cpu"
    folder = Path(options.encoder.removeprefix("hf:"))
    encoder = options.encoder
    if encoder.startswith("hf:") and folder.is_dir():
        encoder = f"hf:{folder.resolve()}"
    dataset, out = options.dataset, options.out
    if Path(dataset).exists():
        dataset = str(Path(dataset).resolve())
    if out is not None and "://" not in out:
        out = str(Path(out).absolute())
    return replace(
        options,
        encoder=encoder,
        dataset=dataset,
        out=out,
        data_root=options.data_root and options.data_root.absolute(),
        weights=options.weights and options.weights.absolute(),
        workers=options.workers or default_workers(device, resources.cpus),
    )
