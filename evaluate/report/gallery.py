"""The example cards of a report: which examples it shows, and their content."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epalm.evaluate.report.embedded_media import Embedded, embed
from epalm.evaluate.scores.eval_results import Evaluation, PredictionRecord
from epalm.tasks.types import MediaItem

PER_GROUP = 12
"""Cards per group; three groups of images of about 20 kB make a report of 0.7 MB."""

GROUPS = ("best", "worst", "random")

_SEED = 0

_NOUNS = {"image": "image", "video": "video", "audio": "audio clip"}


@dataclass(frozen=True, slots=True)
class CardAnswer:
    """The answer of one run on a card.

    Attributes:
        run: name of the run.
        text: the answer.
        score: score of the answer times 100.
        metric: metric of the score.
        tone: color of the score, "good", "bad" or "" for none.
        confidence: probability of the answer in percent; empty for captions or if it is unknown.
    """

    run: str
    text: str
    score: str
    metric: str
    tone: str
    confidence: str


@dataclass(frozen=True)
class Card:
    """One example of the gallery; `searched` has all of its words in lower case."""

    groups: tuple[str, ...]
    key: str
    prompt: str
    types: tuple[str, ...]
    searched: str
    alt: str
    media: Embedded
    references: tuple[str, ...]
    answers: tuple[CardAnswer, ...]


def gallery_cards(evaluations: Sequence[Evaluation], media: Mapping[str, MediaItem]) -> list[Card]:
    """The best, the worst and some random examples of the last evaluation.

    Args:
        evaluations: at least one evaluation; a card has the answers of all of them.
        media: sample of each key; a card without a sample shows text alone.
    """
    by_id = [{record.id: record for record in evaluation.predictions} for evaluation in evaluations]
    shared = [
        record
        for record in evaluations[-1].predictions
        if all(record.id in records for records in by_id)
    ]
    metric = evaluations[-1].example_metric
    chosen = choose([record.scores[metric] for record in shared])
    cards = []
    for row in dict.fromkeys(row for group in GROUPS for row in chosen[group]):
        groups = tuple(group for group in GROUPS if row in chosen[group])
        answers = [records[shared[row].id] for records in by_id]
        cards.append(_card(groups, evaluations, answers, media.get(shared[row].key)))
    return cards


def choose(scores: Sequence[float], *, per_group: int = PER_GROUP) -> dict[str, list[int]]:
    """The rows to show by group: the best, the worst and a random sample of all rows.

    Ties are broken at random with a fixed seed. The best are above the lowest score and the worst
    below the highest, so both groups are empty if all scores are equal. The random sample may
    overlap with both. If there are fewer rows than two groups can have, at most half are the best
    and half the worst.
    """
    order = np.random.default_rng(_SEED).permutation(len(scores)).tolist()
    reverse = order[::-1]  # so that among equal scores the random sample comes last
    ranked = sorted(reverse, key=lambda row: -scores[row])[: min(per_group, (len(order) + 1) // 2)]
    best = [row for row in ranked if scores[row] > min(scores)]
    rest = sorted((row for row in reverse if row not in ranked), key=lambda row: scores[row])
    worst = [row for row in rest[:per_group] if scores[row] < max(scores)]
    return {"best": best, "worst": worst, "random": order[:per_group]}


def _card(
    groups: tuple[str, ...],
    evaluations: Sequence[Evaluation],
    answers: Sequence[PredictionRecord],
    item: MediaItem | None,
) -> Card:
    last = answers[-1]
    noun = _NOUNS[item.modality] if item else "sample"
    caption = evaluations[-1].kind == "caption"
    return Card(
        groups=groups,
        key=last.key,
        prompt=last.prompt,
        types=tuple(name for name in (last.answer_type, last.question_type) if name),
        searched=" ".join(
            (last.prompt, last.key, *last.references, *(answer.prediction for answer in answers))
        ).lower(),
        alt=f"{noun}: {last.references[0]}" if caption else f"{noun} {last.key}",
        media=embed(item) if item else Embedded("none", "its file was not found"),
        references=last.references if caption else _counted(last.references),
        answers=tuple(map(_card_answer, evaluations, answers)),
    )


def _card_answer(evaluation: Evaluation, record: PredictionRecord) -> CardAnswer:
    metric = evaluation.example_metric
    score = record.scores[metric]
    tone = "" if evaluation.kind == "caption" else ("good" if score >= 0.5 else "bad")
    confidence = record.confidence if evaluation.kind == "qa" else None
    return CardAnswer(
        run=evaluation.run,
        text=record.prediction,
        score=f"{100 * score:.1f}",
        metric=metric,
        tone=tone,
        confidence="" if confidence is None else f"{100 * confidence:.0f}",
    )


def _counted(references: Sequence[str]) -> tuple[str, ...]:
    """Distinct references, the most frequent first, with the number of people who gave each."""
    counts = Counter(references).most_common()
    return tuple(text if times == 1 else f"{text} ({times} people)" for text, times in counts)
