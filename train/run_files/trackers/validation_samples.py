"""The validation examples whose predictions a tracker shows, with their samples as images."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from epalm.errors import EpalmError, MediaError
from epalm.media.media_preview import READ_ERRORS
from epalm.media.sample_preview import preview_image
from epalm.tasks.task_registry import load_moved_media
from epalm.tasks.types import Example, MediaItem
from epalm.train.run_files.trackers.tracker import ShownPrediction

logger = logging.getLogger(__name__)

SHOWN = 8
"""Number of examples, evenly spread over the validation examples."""


class ValidationSamples:
    """Examples that are shown after every validation; files are read once, when first shown."""

    def __init__(self, examples: Sequence[Example], dataset: str, root: Path) -> None:
        """Choose the examples.

        Args:
            examples: validation examples.
            dataset: name of the store's dataset, or path of its manifest.
            root: folder of the task's files.
        """
        self._examples = examples
        self._dataset, self._root = dataset, root
        count = min(SHOWN, len(examples))
        self.rows = [row * len(examples) // count for row in range(count)]

    def predictions(self, texts: Sequence[str]) -> list[ShownPrediction]:
        """What is shown of the texts for all validation examples.

        Args:
            texts: generated text for each validation example, in their order.
        """
        return [
            ShownPrediction(
                self._examples[row].prompt,
                texts[row],
                tuple(dict.fromkeys(self._examples[row].references)),
                image,
            )
            for row, image in zip(self.rows, self._images, strict=True)
        ]

    @cached_property
    def _images(self) -> list[Image.Image | None]:
        media = find_items(self._dataset, self._root)
        return [_preview(media.get(self._examples[row].key)) for row in self.rows]


def find_items(dataset: str, root: Path) -> Mapping[str, MediaItem]:
    """The samples of a dataset by key; empty, with a line in the log, if it is not there."""
    try:
        return {item.key: item for item in load_moved_media(dataset, root).items}
    except EpalmError as error:
        logger.info("predictions are tracked without their samples: %s", error)
        return {}


def _preview(item: MediaItem | None) -> Image.Image | None:
    if item is None or not item.path.is_file():
        return None
    try:
        return preview_image(item.path, item.modality, part=item.part)
    except (MediaError, *READ_ERRORS) as error:
        logger.info("%s is tracked without its preview: %s", item.key, error)
        return None
