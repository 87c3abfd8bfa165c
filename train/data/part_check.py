"""Check that every part of a concatenated dataset has examples to train on."""

import logging
from collections.abc import Collection, Sequence

from epalm.cache.readers.joined.joined_stores import AnyIndex, JoinedStores
from epalm.cache.readers.joined.unused_parts import (
    mistaken_parts,
    unused_message,
    unused_parts,
)
from epalm.errors import UsageError
from epalm.tasks.manifest import TASK as MANIFEST
from epalm.tasks.manifest import listed_keys
from epalm.tasks.types import Example
from epalm.train.options.train_config import DataConfig

logger = logging.getLogger(__name__)


def check_parts(
    data: DataConfig,
    stores: JoinedStores,
    index: AnyIndex,
    examples: Collection[Sequence[Example]],
    *,
    resumed: bool,
) -> None:
    """Refuse, or warn about, stores of which no sample is in an example.

    It is a mistake for certain if the store was extracted from another manifest than the first one
    and no split of the first one's manifest has its samples. Otherwise the store may have the
    samples of a test split, or those that a task leaves out.

    Args:
        data: task, and where its examples come from.
        stores: the stores.
        index: index of their keys.
        examples: examples of the training and of the validation split.
        resumed: whether a run is resumed; it has been trained on these stores before.

    Raises:
        UsageError: a store is named by mistake.
    """
    unused = unused_parts(stores, index, ([one.key for one in part] for part in examples))
    if data.task.name == MANIFEST and not resumed:
        listed = listed_keys(data.task, data.root)
        if wrong := mistaken_parts(stores, index, unused, root=data.root, listed=listed):
            message = unused_message(stores, wrong, examples="training example", root=data.root)
            raise UsageError(message)
    if unused and not data.limit:
        kind = "training or validation example"
        logger.warning("%s", unused_message(stores, unused, examples=kind, root=data.root))
