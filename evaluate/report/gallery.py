"""The example cards of a report: which examples it shows, and their content."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epalm.evaluate.report.embedded_media import Embedded, embed
from epalm.evaluate.scores.eval_results import Evaluation, PredictionRecord
from epalm.tasks.types import MediaItem

PER_GROUP = 12
"""Cards per group; three groups of images of about 20 kB make a report of 0.7 MB."""

GROUPS = ("best", "worst", "over-confident", "random")

WORST, OVER_CONFIDENT = "worst", "most over-confident"
"""Badges of the two cards that come first."""

RIGHT = 0.5
"""Answers to questions with this score or more are shown as right."""

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
        control: whether it is that of a blind control, which the page can hide.
        same: whether a blind control gave the answer of the last run.
    """

    run: str
    text: str
    score: str
    metric: str
    tone: str
    confidence: str
    control: bool
    same: bool


@dataclass(frozen=True)
class Card:
    """One example of the gallery.

    Attributes:
        groups: names of `GROUPS`.
        badge: `WORST` or `OVER_CONFIDENT` for the example of these; empty for all others.
        key: key of the sample.
        prompt: the question; empty for captioning.
        types: answer type and question type, if they are known.
        searched: all of its words in lower case.
        alt: description of the sample.
        media: the sample.
        references: reference answers or captions.
        answers: answer of each run, those of blind controls last.
    """

    groups: tuple[str, ...]
    badge: str
    key: str
    prompt: str
    types: tuple[str, ...]
    searched: str
    alt: str
    media: Embedded
    references: tuple[str, ...]
    answers: tuple[CardAnswer, ...]


def gallery_cards(evaluations: Sequence[Evaluation], media: Mapping[str, MediaItem]) -> list[Card]:
    """The best, the worst, over-confident and some random examples of the last evaluation.

    The worst answer and the most over-confident one come first.

    Args:
        evaluations: at least one evaluation; a card has the answers of all of them.
        media: sample of each key; a card without a sample shows text alone.
    """
    by_id = [{record.id: record for record in evaluation.predictions} for evaluation in evaluations]
    last = evaluations[-1]
    shared = [
        record for record in last.predictions if all(record.id in records for records in by_id)
    ]
    chosen = choose([record.scores[last.example_metric] for record in shared])
    confident = over_confident(last, shared, preferred=chosen["worst"])
    chosen["over-confident"] = confident
    # An answer that is both is the example of over-confidence if there is another bad one.
    worst = [row for row in chosen["worst"] if row not in confident[:1]] or chosen["worst"]
    badges = dict.fromkeys(confident[:1], OVER_CONFIDENT) | dict.fromkeys(worst[:1], WORST)
    order = [*worst[:1], *confident[:1], *(row for group in GROUPS for row in chosen[group])]
    cards = []
    for row in dict.fromkeys(order):
        groups = tuple(group for group in GROUPS if row in chosen[group])
        answers = [records[shared[row].id] for records in by_id]
        item = media.get(shared[row].key)
        cards.append(_card(groups, badges.get(row, ""), evaluations, answers, item))
    return cards


def over_confident(
    evaluation: Evaluation,
    records: Sequence[PredictionRecord],
    *,
    preferred: Collection[int] = (),
    count: int = PER_GROUP,
) -> list[int]:
    """Rows of wrong answers with a confidence above 0.5, the largest excess first.

    Args:
        evaluation: evaluation of the records; captions have no over-confident answers.
        records: the records to choose from.
        preferred: rows that come first among equals.
        count: maximum number of rows.
    """
    if evaluation.kind == "caption":
        return []
    metric = evaluation.example_metric
    excess = {
        row: record.confidence - record.scores[metric]
        for row, record in enumerate(records)
        if record.confidence is not None and record.confidence > RIGHT > record.scores[metric]
    }
    return sorted(excess, key=lambda row: (-excess[row], row not in preferred))[:count]


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
    badge: str,
    evaluations: Sequence[Evaluation],
    answers: Sequence[PredictionRecord],
    item: MediaItem | None,
) -> Card:
    last = answers[-1]
    noun = _NOUNS[item.modality] if item else "sample"
    caption = evaluations[-1].kind == "caption"
    shown = [
        _card_answer(evaluation, record, last, can_hide=not evaluations[-1].blind)
        for evaluation, record in zip(evaluations, answers, strict=True)
    ]
    return Card(
        groups=groups,
        badge=badge,
        key=last.key,
        prompt=last.prompt,
        types=tuple(name for name in (last.answer_type, last.question_type) if name),
        searched=" ".join(
            (last.prompt, last.key, *last.references, *(answer.prediction for answer in answers))
        ).lower(),
        alt=f"{noun}: {last.references[0]}" if caption else f"{noun} {last.key}",
        media=embed(item) if item else Embedded("none", "its file was not found"),
        references=last.references if caption else _counted(last.references),
        answers=tuple(sorted(shown, key=lambda answer: answer.control)),
    )


def _card_answer(
    evaluation: Evaluation, record: PredictionRecord, last: PredictionRecord, *, can_hide: bool
) -> CardAnswer:
    metric = evaluation.example_metric
    score = record.scores[metric]
    tone = "" if evaluation.kind == "caption" else ("good" if score >= RIGHT else "bad")
    confidence = record.confidence if evaluation.kind == "qa" else None
    return CardAnswer(
        run=evaluation.run,
        text=record.prediction,
        score=f"{100 * score:.1f}",
        metric=metric,
        tone=tone,
        confidence="" if confidence is None else f"{100 * confidence:.0f}",
        control=evaluation.blind and can_hide,
        same=evaluation.blind and can_hide and record.prediction == last.prediction,
    )


def _counted(references: Sequence[str]) -> tuple[str, ...]:
    """Distinct references, the most frequent first, with the number of people who gave each."""
    counts = Counter(references).most_common()
    return tuple(text if times == 1 else f"{text} ({times} people)" for text, times in counts)
