"""A warning about parts of one dataset that an evaluation has no examples of."""

import logging
from collections.abc import Sequence
from pathlib import Path

from epalm.cache.readers.joined.joined_stores import JoinedStores
from epalm.cache.readers.joined.unused_parts import (
    mistaken_parts,
    unused_message,
    unused_parts,
)
from epalm.tasks.manifest import TASK as MANIFEST
from epalm.tasks.manifest import listed_keys
from epalm.tasks.types import Task

logger = logging.getLogger(__name__)


def warn_of_foreign_parts(
    stores: JoinedStores, task: Task, root: Path, *, keys: Sequence[str]
) -> None:
    """Warn about stores of another manifest than that of the examples, see `mistaken_parts`.

    Args:
        stores: stores that are read.
        task: task to evaluate.
        root: folder of its files.
        keys: keys of the samples of the examples to evaluate.
    """
    if not stores.parts or task.name != MANIFEST:
        return
    index = stores.index(task.name)
    unused = unused_parts(stores, index, [keys])
    listed = listed_keys(task, root)
    if wrong := mistaken_parts(stores, index, unused, root=root, listed=listed):
        logger.warning(
            "%s", unused_message(stores, wrong, examples="example of any split", root=root)
        )
