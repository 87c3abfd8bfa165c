"""The blind control of a run, on the same frozen language model where that is possible."""

import logging
from dataclasses import replace
from pathlib import Path

from epalm.errors import UsageError
from epalm.evaluate.preparation.run_lookup import find_run
from epalm.model.build import assemble
from epalm.model.checkpoints.adapter_io import LoadedRun, load_adapter, load_run
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RunRecord
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant

SAMPLES = frozenset(("count", "dataset", "shard_rows"))
"""Fields of a store in which the two may differ: what it has, not how it was encoded."""

logger = logging.getLogger(__name__)


def load_blind_control(run: LoadedRun, name: str, device: str) -> LoadedRun:
    """Load the blind control of a run; it takes the features of the run's own encoder.

    Args:
        run: the run.
        name: folder of the blind control, or its name below runs.
        device: device of the run's model.

    Raises:
        MissingFileError: there is no such run.
        UsageError: it is no blind control, or was trained on other features.
        ModelError: the language model cannot be loaded.
    """
    folder = find_run(Path("runs"), name)
    record = RunRecord.load(folder)
    if not record.blind:
        raise UsageError(
            f"{folder} is no blind control: train one with `epalm-train --blind`, or leave out "
            "--blind"
        )
    names = {*record.store, *run.record.store} - SAMPLES
    if differing := run.record.differing(record.store, names):
        raise UsageError(
            f"{folder} was trained on other features than {run.record.name}: {differing[0]}"
        )
    if not _can_share(run, record):
        lm = run.record.model.lm if record.lm_digest == run.record.lm_digest else ""
        return load_run(folder, device, lm=lm)
    return _load_beside(run, record, folder)


def _can_share(run: LoadedRun, record: RunRecord) -> bool:
    """Whether both can have one language model: equal weights, precision and text, no hooks."""

    def plain(settings: ModelSettings) -> bool:
        variant = find_variant(settings.variant)
        return variant.language_model != "trained" and not variant.adapter_factor

    own, other = run.record.model, record.model
    return (
        record.lm_digest == run.record.lm_digest
        and other.precision == own.precision
        and other.text_template() == own.text_template()
        and plain(own)
        and plain(other)
    )


def _load_beside(run: LoadedRun, record: RunRecord, folder: Path) -> LoadedRun:
    """A second model around the language model of `run`."""
    weight = next(run.model.connectors.parameters())
    record = replace(record, model=replace(record.model, lm=run.record.model.lm))
    model = assemble(run.model.language_model, record.model).to(weight.device, weight.dtype)
    load_adapter(model, folder / ADAPTER_FILE)
    logger.info("%s shares the language model of %s", folder, run.record.name)
    return LoadedRun(record, model.eval(), run.text, run.precision)
