"""The demo's captioning task: how many of a recording's facts a caption tells rightly.

`epalm.demo.descriptions:task` is a manifest whose captions are scored by `score_descriptions`. The
published metrics tokenise with a Java program; the demo's captions are lower-case words with blanks
between, which that program leaves as they are, so nothing here needs Java.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocoevalcap.cider.cider import Cider

from epalm.demo.worlds.audio_captions import MEANINGS, facts_told
from epalm.metrics.metric_registry import Scores, texts_in_order
from epalm.tasks import manifest
from epalm.tasks.types import Example, Prediction, Task

NAME = "epalm.demo.descriptions:task"


def task(root: Path) -> Task:
    """The task over the manifest in `root`; see `epalm.tasks.manifest.task` for what is raised."""
    return replace(
        manifest.task(root), name=NAME, metric="epalm.demo.descriptions:score_descriptions"
    )


def score_descriptions(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """The metric of the demo's captions.

    Values:
        facts_told: of the facts that the first reference tells, the share that the caption tells
            with the same value; the headline.
        all_facts: the share of captions that tell all of them.
        CIDEr: as the COCO toolkit computes it, of the words as they stand.

    Raises:
        DataError: predictions and examples do not match.
    """
    texts = texts_in_order(predictions, examples)
    right = np.array(
        [_right_facts(text, one.references[0]) for text, one in zip(texts, examples, strict=True)]
    )
    references = {row: list(example.references) for row, example in enumerate(examples)}
    cider, cider_each = Cider().compute_score(
        references, {row: [text.strip()] for row, text in enumerate(texts)}
    )
    columns = {
        "facts_told": right.mean(axis=1),
        "all_facts": right.all(axis=1).astype(np.float64),
        "CIDEr": np.asarray(cider_each, dtype=np.float64),
    }
    values = {name: float(column.mean()) for name, column in columns.items()}
    return Scores(values | {"CIDEr": float(cider)}, columns, headline="facts_told")


def _right_facts(caption: str, reference: str) -> list[float]:
    """1 or 0 for each fact of `MEANINGS`."""
    told, wanted = facts_told(caption), facts_told(reference)
    return [float(told.get(fact) == wanted[fact]) for fact in MEANINGS]
