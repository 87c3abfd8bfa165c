"""The blind control of a run, on the same frozen language model where that is possible."""

import logging
from pathlib import Path

from epalm.ask.adapters.adapter_set import check_same_features
from epalm.errors import UsageError
from epalm.evaluate.preparation.run_lookup import find_run
from epalm.model.checkpoints.adapter_io import LoadedRun, can_share, load_run, load_run_beside
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.method.variants import find_variant

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
    check_same_features(run, record, folder)
    if not _answers_together(run, record):
        lm = run.record.model.lm if record.lm_digest == run.record.lm_digest else ""
        return load_run(folder, device, lm=lm)
    logger.info("%s shares the language model of %s", folder, run.record.name)
    return load_run_beside(run, record, folder)


def _answers_together(run: LoadedRun, record: RunRecord) -> bool:
    """Whether both can answer on one language model without switching its adapters."""
    own, other = run.record.model, record.model
    adapted = any(find_variant(one.variant).adapter_factor for one in (own, other))
    return can_share(run, record) and own.text_template() == other.text_template() and not adapted
