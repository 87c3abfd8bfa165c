"""The demo's captioning task and its metric: how many facts of an audio clip a caption gets right.

`epalm.demo.descriptions:task` is a manifest task with the metric `score_descriptions`. The official
caption metrics tokenize with a Java program. The demo's captions are lower-case words separated by
spaces, which that program would not change, so the demo needs no Java.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocoevalcap.cider.cider import Cider

from epalm.demo.worlds.audio_captions import MEANINGS, stated_facts
from epalm.metrics.metric_registry import Scores, texts_in_order
from epalm.tasks import manifest
from epalm.tasks.types import Example, Prediction, Task

NAME = "epalm.demo.descriptions:task"


def task(root: Path) -> Task:
    """The captioning task of the manifest in `root`; raises what `manifest.task` raises."""
    return replace(
        manifest.task(root), name=NAME, metric="epalm.demo.descriptions:score_descriptions"
    )


def score_descriptions(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Score the demo's captions by the facts they state.

    Values:
        facts_told: fraction of the first reference's facts that the caption states with the same
            value; the headline.
        all_facts: fraction of captions that state all facts correctly.
        CIDEr: CIDEr of the COCO toolkit on whitespace tokens.

    Raises:
        DataError: predictions and examples do not match.
    """
    texts = texts_in_order(predictions, examples)
    correct = np.array(
        [
            _correct_facts(text, example.references[0])
            for text, example in zip(texts, examples, strict=True)
        ]
    )
    references = {row: list(example.references) for row, example in enumerate(examples)}
    cider, cider_per_example = Cider().compute_score(
        references, {row: [text.strip()] for row, text in enumerate(texts)}
    )
    columns = {
        "facts_told": correct.mean(axis=1),
        "all_facts": correct.all(axis=1).astype(np.float64),
        "CIDEr": np.asarray(cider_per_example, dtype=np.float64),
    }
    values = {name: float(column.mean()) for name, column in columns.items()}
    return Scores(values | {"CIDEr": float(cider)}, columns, headline="facts_told")


def _correct_facts(caption: str, reference: str) -> list[float]:
    """1.0 for each fact of `MEANINGS` that the caption gets right, else 0.0."""
    stated, expected = stated_facts(caption), stated_facts(reference)
    return [float(stated.get(fact) == expected[fact]) for fact in MEANINGS]
