"""An extraction from its checked inputs to its store: what `epalm-extract` and `epalm.extract` do.

This module imports no torch before the decoding processes have started.
"""

import logging

from epalm.extract.decoding.decode_pool import DecodePool
from epalm.extract.planning.extract_inputs import Inputs, default_workers, read_inputs
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.extraction_result import FilledStore, RunLabels
from epalm.extract.planning.process_shards import ALL, ProcessShard
from epalm.tasks.types import MediaSet

logger = logging.getLogger(__name__)


def run_options(
    options: ExtractOptions, *, process_shard: ProcessShard = ALL, media: MediaSet | None = None
) -> FilledStore:
    """Extract as the options say: in this process, or on the engine of --engine.

    Args:
        options: the options of the command.
        process_shard: the shards that this process encodes; an engine encodes all of them.
        media: the samples; None to load those of `options.dataset`.

    Raises:
        EpalmError: as `read_inputs` and `fill_store`; an engine's processes raise the same.
    """
    if options.engine:
        from epalm.extract.engines.ray_engine import fill_store_on_ray

        return fill_store_on_ray(options, media)
    return fill_store(read_inputs(options, process_shard=process_shard, media=media))


def fill_store(inputs: Inputs) -> FilledStore:
    """Encode what the store lacks, with decoding processes that start before torch is imported.

    Raises:
        CacheMismatchError: a store of other settings is there.
        ModelError: the encoder cannot be loaded.
        Stopped: Ctrl-C or a termination signal; the same call resumes.
        StoreError: the store cannot be written.
    """
    options = inputs.options
    workers = default_workers("cpu") if options.workers is None else options.workers
    if not workers:
        logger.info("loading %s", options.encoder)
        return _fill(inputs, None)
    processes = "process" if workers == 1 else "processes"
    logger.info("starting %d decoding %s, loading %s", workers, processes, options.encoder)
    with DecodePool(workers, inputs.items[0].modality if inputs.items else "image") as pool:
        return _fill(inputs, pool)


def _fill(inputs: Inputs, pool: DecodePool | None) -> FilledStore:
    from epalm.extract import run_extraction
    from epalm.extract.planning import changed_shards, extraction_plan, store_rows
    from epalm.extract.reports.incomplete_media import incomplete_listed
    from epalm.extract.reports.run_log import note_report

    options = inputs.options
    plan = extraction_plan.make_plan(inputs)
    if pool:
        pool.grow(plan.run_options.workers)  # the default for a GPU is larger than for a CPU
    target = store_rows.open_target(plan, options, defer_keys=True)
    plan, store = target.plan, target.store
    with incomplete_listed(plan.out):
        report = run_extraction.extract(
            plan.encoder,
            target.items,
            store,
            options=plan.run_options,
            process_shard=plan.process_shard,
            root=plan.root,
            reencode=changed_shards.shards_to_reencode(target, options.changed_media),
            pool=pool,
        )
    note_report(report, plan, options.device)
    return FilledStore(report, RunLabels.of(plan, options), store)
