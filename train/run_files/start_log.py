"""What the log says when a training starts."""

import logging

from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.epalm import EPALM
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant

logger = logging.getLogger(__name__)


def log_start(record: RunRecord, network: EPALM, train_count: int, val_count: int) -> None:
    """Log the run, its trainable parameters and the layers that get features.

    Args:
        record: record of the run.
        network: the model.
        train_count: number of training examples.
        val_count: number of validation examples.
    """
    logger.info(
        "%s: %s on %s, %d training and %d validation examples%s",
        record.name,
        record.model.variant,
        record.model.lm,
        train_count,
        val_count,
        ", blind control" if record.blind else "",
    )
    logger.info(
        "trainable parameters: %s of %s (%.4f %% of LM + adapter)",
        f"{record.trained:,}",
        f"{record.trained + record.frozen:,}",
        100 * record.trained / (record.trained + record.frozen),
    )
    for line in str(network.plan).splitlines():
        logger.info("%s", line)
    _warn_of_unused_features(network, record.model)


def _warn_of_unused_features(network: EPALM, model: ModelSettings) -> None:
    """Log a warning if the language model has too few layers for all features."""
    sources = model.sources or (model.first_source(),)
    count = sum(len(source.blocks) for source in sources)
    used = network.plan.feature_count
    if find_variant(model.variant).features == "all" and used < count:
        logger.warning(
            "the injected layers take %d of %d features, the last ones are not used: give "
            "--source-layers last-%d, or more layers with --inject",
            used,
            count,
            max(used // len(sources), 1),
        )
