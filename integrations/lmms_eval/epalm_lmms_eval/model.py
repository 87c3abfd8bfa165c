"""A trained run of epalm as a model of lmms-eval."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, unwrap_generation_output
from lmms_eval.api.model import lmms
from tqdm import tqdm

import epalm
from epalm_lmms_eval.generation import cut_at, decoding_changes
from epalm_lmms_eval.media_inputs import Sample, sample_of
from epalm_lmms_eval.questions import check_same_request, question_of
from epalm_lmms_eval.requests import Request, batches, choices_of, parse

BATCH_SIZE = 32
"""Samples per call for `--batch_size auto`; the most that epalm computes at once."""

Loss = tuple[float, bool]
"""Negative log-probability of a text, and whether greedy decoding generates it."""


class EpalmModel(lmms):
    """A trained run that answers the requests of lmms-eval: `--model epalm`."""

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        lm: str = "",
        weights: str = "",
        questions: str = "task",
        decoding: str = "task",
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        """Load a run; all but the last three arguments come from `--model_args`.

        Args:
            pretrained: folder of a run, its name in `runs`, or user/name on the hub.
            lm: folder or hub id of the language model; "" for that of training.
            weights: file or folder of the encoder's weights; "" for those of extraction.
            questions: "task" for the texts as the task gives them, "plain" without instructions
                such as "Answer the question using a single word or phrase."
            decoding: "task" for the generation settings of the task, "run" for the run's own ones.
            batch_size: samples per call, or "auto".
            device: name of the torch device; None for a GPU if there is one.
            max_batch_size: accepted because lmms-eval gives it, without effect.

        Raises:
            ValueError: an unknown value of `questions` or `decoding`.
            EpalmError: the run cannot be loaded, see `epalm.load`.
        """
        super().__init__()
        del max_batch_size
        _check_choice("questions", questions, ("task", "plain"))
        _check_choice("decoding", decoding, ("task", "run"))
        self._plain, self._own_decoding = questions == "plain", decoding == "run"
        self.batch_size = BATCH_SIZE if batch_size == "auto" else int(batch_size)
        self.device = device or _default_device()
        self.run = epalm.load(str(pretrained), lm=lm, weights=weights, device=self.device)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The run's answer, or caption, for each request."""
        parsed = [parse(one.args) for one in requests]
        settings = [dict(one.args[1]) for one in requests]
        self._check_captions(parsed)
        answers = [""] * len(requests)
        for rows in self._progress(batches(settings, self.batch_size)):
            setting = settings[rows[0]]
            changes = {} if self._own_decoding else decoding_changes(setting)
            texts = self._generate([parsed[row] for row in rows], changes)
            for row, text in zip(rows, texts, strict=True):
                answers[row] = cut_at(text, setting.get("until"))
                key = (parsed[row].context, setting)
                self.cache_hook.add_partial("generate_until", key, answers[row])
        return answers

    def loglikelihood(self, requests: list[Instance]) -> list[Loss]:
        """The loss of each continuation, and whether greedy decoding generates it.

        lmms-eval calls this a log-likelihood but takes the choice with the smallest value, since
        its own models return losses. It is the negative log-probability of all tokens, end token
        included, which is exact: the choice is the one of `epalm-eval --answers`.
        """
        parsed = [parse(one.args) for one in requests]
        texts = [
            self._continuation(one.args[1], request)
            for one, request in zip(requests, parsed, strict=True)
        ]
        self._check_captions(parsed)
        choices = choices_of(parsed, texts)
        questions = list({request.name: request for request in parsed}.values())
        losses: dict[object, dict[str, Loss]] = {}
        keys = [tuple(choices[one.name]) for one in questions]
        for rows in self._progress(batches(keys, self.batch_size)):
            batch = [questions[row] for row in rows]
            for one, scored in zip(batch, self._score(batch, keys[rows[0]]), strict=True):
                losses[one.name] = scored
        return [_response(losses[one.name][text]) for one, text in zip(parsed, texts, strict=True)]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refused: a run answers one question about a sample."""
        raise NotImplementedError(
            "a run of epalm answers one question about a sample, without rounds: leave out tasks "
            "of the output type generate_until_multi_round"
        )

    def _generate(self, requests: Sequence[Request], changes: dict[str, object]) -> list[str]:
        samples: list[Any] = self._samples(requests)
        if not self.run.answers_questions:
            return [str(text) for text in self.run.caption(samples, **changes)]
        answers = self.run.answer(samples, self._questions(requests), **changes)
        return [str(text) for text in answers]

    def _score(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, Loss]]:
        samples: list[Any] = self._samples(requests)
        scored = self.run.score(samples, self._questions(requests), choices)
        longest = max(answer.tokens for answer in scored[0])
        changes = {"max_new_tokens": longest, "num_beams": 1, "do_sample": False}
        greedy = self._generate(requests, changes)
        return [
            {str(answer): (-answer.log_probability, str(answer) == text) for answer in answers}
            for answers, text in zip(scored, greedy, strict=True)
        ]

    def _samples(self, requests: Sequence[Request]) -> list[Sample]:
        return [
            sample_of(
                request.to_visual(self._document(request)),
                modality=self.run.modality,
                task=request.task,
            )
            for request in requests
        ]

    def _questions(self, requests: Sequence[Request]) -> list[str]:
        if not self.run.answers_questions:
            return [""] * len(requests)
        return [question_of(request.context, plain=self._plain) for request in requests]

    def _document(self, request: Request) -> Any:  # noqa: ANN401 - a row of any dataset
        return self.task_dict[request.task][request.split][request.doc_id]

    def _continuation(self, target: object, request: Request) -> str:
        text = target(self._document(request)) if callable(target) else target
        return str(text).strip()

    def _check_captions(self, requests: Sequence[Request]) -> None:
        if self.run.answers_questions:
            return
        for task in dict.fromkeys(request.task for request in requests):
            contexts = [request.context for request in requests if request.task == task]
            check_same_request(contexts, task=task, run=self.run.record.name)

    def _progress(self, parts: list[list[int]]) -> Iterable[list[int]]:
        return tqdm(parts, desc="epalm", disable=self.rank != 0)


def _response(loss: Loss) -> Loss:
    """What lmms-eval takes as a pair.

    0.7.3 turns a plain pair into text, at which every task of choices fails, but not one in the
    type that is meant for generated text.
    """
    kept, _ = unwrap_generation_output(loss)
    return loss if kept == loss else GenerationResult(loss)  # type: ignore[arg-type, return-value]


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected {' or '.join(choices)}")


def _default_device() -> str:
    """The GPU of this process if lmms-eval runs in several ones, else "auto"."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "auto"
