"""Scores of every answer of a list, where `epalm.model.generation.ranking` finds the best one."""

from dataclasses import dataclass, field

from epalm.model.engine.length_check import AnswerLimit
from epalm.model.epalm import EPALM
from epalm.model.generation.batched_generation import Answer, GenerationBatch
from epalm.model.generation.ranking import AnswerList, Ranker, score_all


@dataclass(frozen=True)
class Scorer:
    """Answers questions with the most probable answer of a list, and keeps the scores of all.

    Attributes:
        answers: the list.
        found: name of each question -> the log-probability of each answer, end token included.
    """

    answers: AnswerList
    found: dict[str, list[float]] = field(default_factory=dict)

    @property
    def limit(self) -> AnswerLimit:
        """See `AnswerStrategy`."""
        return Ranker(self.answers).limit

    def __call__(self, model: EPALM, batch: GenerationBatch) -> list[Answer]:
        """The best answer to each question."""
        scores = score_all(
            model,
            batch.cache,
            batch.input_ids,
            batch.attention_mask,
            self.answers,
            image_index=batch.image_index,
        )
        self.found.update(zip(batch.names, scores.tolist(), strict=True))
        best, indices = scores.max(dim=1)
        return self.answers.chosen(indices, best)
