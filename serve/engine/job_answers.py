"""Answers to a batch of jobs with equal decoding settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from epalm.ask.answers import Answer
from epalm.ask.feature_answers import answer_features, question_name
from epalm.cache.formats.store_format import Features
from epalm.errors import UsageError
from epalm.model.checkpoints.adapter_io import LoadedRun
from epalm.model.families.family import text_positions
from epalm.model.generation.token_watch import TokenStep, TokenWatch
from epalm.serve.engine.jobs import Job, JobResult, Question


@dataclass(frozen=True)
class CheckedJob:
    """A job whose prompt fits.

    Attributes:
        job: the job.
        question: the question, with at most as many new tokens as there are positions.
        prompt_tokens: number of tokens of the prompt.
    """

    job: Job
    question: Question
    prompt_tokens: int

    @property
    def group(self) -> tuple[object, ...]:
        """Jobs of equal groups are answered together."""
        question = self.question
        return question.decoding, question.alternatives, question.top_tokens


def check_job(run: LoadedRun, job: Job, question: Question) -> CheckedJob:
    """Count the tokens of the prompt, and limit those of the answer to the positions left.

    Raises:
        UsageError: the prompt leaves no position for an answer.
        ModelError: the prompt has no token.
    """
    (ids,) = run.text.prompt_ids([question.prompt])
    positions = text_positions(run.model.language_model.config)
    left = positions - len(ids)
    if left < 1:
        raise UsageError(
            f"the question has {len(ids)} tokens, the language model has {positions} positions: "
            "shorten it"
        )
    longest = min(question.decoding.max_new_tokens, left)
    decoding = replace(question.decoding, max_new_tokens=longest)
    return CheckedJob(job, replace(question, decoding=decoding), len(ids))


@dataclass(frozen=True)
class Listeners:
    """Passes the tokens of a batch on to its jobs, and notes which answers have ended.

    Attributes:
        run: the run.
        jobs: the jobs; equal questions about equal samples have the same name.
        ended: names of the questions whose answers have an end token.
    """

    run: LoadedRun
    jobs: Sequence[CheckedJob]
    ended: set[str] = field(default_factory=set)

    def watch(self, names: Sequence[str]) -> TokenWatch:
        """See `Generator.watch`."""
        by_name: dict[str, list[Job]] = {}
        for one in self.jobs:
            name = question_name(one.job.key, one.question.prompt)
            by_name.setdefault(name, []).append(one.job)
        first = {name: row for row, name in reversed(list(enumerate(names)))}

        def on_token(row: int, step: TokenStep) -> None:
            if step.is_last:
                self.ended.add(names[row])
            if first[names[row]] != row:  # equal questions have equal answers
                return
            for job in by_name[names[row]]:
                if job.on_step:
                    job.on_step(step)

        return TokenWatch(self.run.text.ends, on_token, top=self.jobs[0].question.top_tokens)


def answer_group(
    run: LoadedRun, blind: LoadedRun | None, jobs: Sequence[CheckedJob], features: Features
) -> list[JobResult]:
    """Answers to jobs of one group.

    Args:
        run: the run.
        blind: the blind control, if there is one.
        jobs: jobs of equal `CheckedJob.group`.
        features: (N, L, D), one sample for each job.
    """
    question = jobs[0].question
    keys = [one.job.key for one in jobs]
    prompts = [one.question.prompt for one in jobs]
    listeners = Listeners(run, jobs)
    answers = answer_features(
        *(run, features, prompts, keys, question.decoding),
        top=question.alternatives,
        watch=listeners.watch,
    )
    controls = _blind_answers(blind, jobs, features)
    results = []
    for row, (one, answer) in enumerate(zip(jobs, answers, strict=True)):
        name = question_name(one.job.key, one.question.prompt)
        ended = name in listeners.ended or answer.tokens < question.decoding.max_new_tokens
        results.append(JobResult(features[row], answer, controls[row], one.prompt_tokens, ended))
    return results


def _blind_answers(
    blind: LoadedRun | None, jobs: Sequence[CheckedJob], features: Features
) -> list[Answer | None]:
    """Answers of the blind control to the jobs that request them."""
    answers: list[Answer | None] = [None] * len(jobs)
    rows = [row for row, one in enumerate(jobs) if one.question.blind]
    if blind is None or not rows:
        return answers
    chosen = [jobs[row] for row in rows]
    controls = answer_features(
        *(blind, np.ascontiguousarray(features[rows])),
        [one.question.prompt for one in chosen],
        [one.job.key for one in chosen],
        chosen[0].question.decoding,
    )
    for row, control in zip(rows, controls, strict=True):
        answers[row] = control
    return answers
