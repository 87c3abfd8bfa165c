"""Which examples a report shows, and how each of them looks there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epalm.evaluate.report.embedded_media import Embedded, embed
from epalm.evaluate.scores.eval_results import Evaluation, PredictionRecord
from epalm.tasks.types import MediaItem

PER_GROUP = 12
"""Cards per group; three groups of photos of about 20 kB make a report of 0.7 megabytes."""

GROUPS = ("best", "worst", "random")

_SEED = 0

_NOUNS = {"image": "photo", "video": "clip", "audio": "recording"}


@dataclass(frozen=True, slots=True)
class CardAnswer:
    """One run's answer on a card.

    Attributes:
        run: its name.
        text: the answer.
        score: times 100.
        metric: what the score is of.
        tone: "good", "bad" or "" for the score's colour.
        sure: the answer's probability in per cent; empty if unknown, and of captions.
    """

    run: str
    text: str
    score: str
    metric: str
    tone: str
    sure: str


@dataclass(frozen=True)
class Card:
    """One example of the gallery; `searched` is all of its words, in lower case."""

    groups: tuple[str, ...]
    key: str
    prompt: str
    types: tuple[str, ...]
    searched: str
    alt: str
    medium: Embedded
    references: tuple[str, ...]
    answers: tuple[CardAnswer, ...]


def gallery_cards(evaluations: Sequence[Evaluation], media: Mapping[str, MediaItem]) -> list[Card]:
    """The best, the worst and some random examples of the last evaluation.

    Args:
        evaluations: at least one; the others' answers to the same questions stand beside.
        media: key -> medium; cards of media it lacks do without a picture.
    """
    by_id = [{one.id: one for one in evaluation.answered} for evaluation in evaluations]
    shared = [one for one in evaluations[-1].answered if all(one.id in known for known in by_id)]
    metric = evaluations[-1].example_metric
    chosen = choose([one.scores[metric] for one in shared])
    cards = []
    for row in dict.fromkeys(row for group in GROUPS for row in chosen[group]):
        groups = tuple(group for group in GROUPS if row in chosen[group])
        several = [known[shared[row].id] for known in by_id]
        cards.append(_card(groups, evaluations, several, media.get(shared[row].key)))
    return cards


def choose(scores: Sequence[float], *, per_group: int = PER_GROUP) -> dict[str, list[int]]:
    """Rows to show: the best and the worst of all, and a fair random sample of all.

    Ties are broken at random, always the same way. The best are above the lowest score and the
    worst below the highest; the sample may hold rows of both. Where all score the same there are
    neither. Of fewer rows than two groups hold, at most half are the best and half the worst.
    """
    order = np.random.default_rng(_SEED).permutation(len(scores)).tolist()
    turned = order[::-1]  # so that among equals the sample's come last
    ranked = sorted(turned, key=lambda row: -scores[row])[: min(per_group, (len(order) + 1) // 2)]
    best = [row for row in ranked if scores[row] > min(scores)]
    rest = sorted((row for row in turned if row not in ranked), key=lambda row: scores[row])
    worst = [row for row in rest[:per_group] if scores[row] < max(scores)]
    return {"best": best, "worst": worst, "random": order[:per_group]}


def _card(
    groups: tuple[str, ...],
    evaluations: Sequence[Evaluation],
    several: Sequence[PredictionRecord],
    item: MediaItem | None,
) -> Card:
    last = several[-1]
    noun = _NOUNS[item.modality] if item else "medium"
    caption = evaluations[-1].kind == "caption"
    return Card(
        groups=groups,
        key=last.key,
        prompt=last.prompt,
        types=tuple(name for name in (last.answer_type, last.question_type) if name),
        searched=" ".join(
            (last.prompt, last.key, *last.references, *(one.prediction for one in several))
        ).lower(),
        alt=f"{noun}: {last.references[0]}" if caption else f"{noun} {last.key}",
        medium=embed(item) if item else Embedded("none", "its file was not found"),
        references=last.references if caption else _counted(last.references),
        answers=tuple(map(_said, evaluations, several)),
    )


def _said(evaluation: Evaluation, answered: PredictionRecord) -> CardAnswer:
    metric = evaluation.example_metric
    score = answered.scores[metric]
    tone = "" if evaluation.kind == "caption" else ("good" if score >= 0.5 else "bad")
    sure = answered.confidence if evaluation.kind == "qa" else None
    return CardAnswer(
        run=evaluation.run,
        text=answered.prediction,
        score=f"{100 * score:.1f}",
        metric=metric,
        tone=tone,
        sure="" if sure is None else f"{100 * sure:.0f}",
    )


def _counted(references: Sequence[str]) -> tuple[str, ...]:
    """Different references, the most frequent first, with how many people gave each."""
    counts = Counter(references).most_common()
    return tuple(text if times == 1 else f"{text} ({times} people)" for text, times in counts)
