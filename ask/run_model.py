"""A trained run that answers questions about new samples: `epalm.load`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from epalm.ask.adapters.adapted_model import AdaptedModel
from epalm.ask.answers import Answer
from epalm.ask.ask_options import MAX_ALTERNATIVES
from epalm.ask.feature_answers import BATCH_SIZE, Watch, answer_features, score_features
from epalm.ask.sample_decoder import SampleDecoder, require_inputs
from epalm.ask.samples import Media, SampleFiles, paired, sample_folder
from epalm.cache.formats.dtype_cast import cast_features
from epalm.cache.formats.store_format import Features
from epalm.devices import AUTO
from epalm.errors import UsageError
from epalm.extract.decoding.decode_batch import Input
from epalm.extract.run_extraction import encode
from epalm.model.method.model_settings import Decoding
from epalm.tasks.types import MediaItem, Modality

WINDOW = 4 * BATCH_SIZE
"""Samples whose files and features are held at once."""


class Model(AdaptedModel):
    """A trained run with its encoder, or several of one encoder and language model."""

    def __repr__(self) -> str:
        return f"Model({self.record.name!r}, {self.record.model.lm!r}, {self.encoder.name!r})"

    @property
    def modality(self) -> Modality:
        """What a sample is: "image", "video" or "audio"."""
        return self.encoder.modality

    @property
    def answers_questions(self) -> bool:
        """Whether the run was trained to answer questions; otherwise it was to write captions."""
        return self.record.model.answers_questions

    @overload
    def answer(
        self, media: Media, question: str, *, top: int = 0, **decoding: object
    ) -> Answer: ...
    @overload
    def answer(
        self, media: list[Media], question: str | list[str], *, top: int = 0, **decoding: object
    ) -> list[Answer]: ...
    @overload
    def answer(
        self, media: Media, question: list[str], *, top: int = 0, **decoding: object
    ) -> list[Answer]: ...
    def answer(
        self,
        media: Media | list[Media],
        question: str | list[str],
        *,
        top: int = 0,
        **decoding: object,
    ) -> Answer | list[Answer]:
        """Answer a question about a sample.

        Examples:
            >>> import epalm
            >>> model = epalm.load("runs/scenes")
            >>> answer = model.answer("scene.png", "which shape is red?", top=3)
            >>> answer in ("circle", "square", "star", "triangle")
            True
            >>> 0 < answer.probability < 1, len(answer.alternatives)
            (True, 3)

        Args:
            media: a path, the bytes of a file, a PIL image or an array, see
                `epalm.ask.samples.ACCEPTED`; a list of them for several answers.
            question: the question; a list has one for each sample, or several for one sample.
            top: number of alternatives, found by beam search, that each answer carries.
            decoding: settings of `Decoding` in place of the run's, e.g. `num_beams=3`.

        Returns:
            A text with its log-probability; a list where `media` or `question` is one.

        Raises:
            MediaError: a sample cannot be decoded.
            MissingFileError: a file does not exist.
            UsageError: the run writes captions, or an argument is impossible.
        """
        if not self.answers_questions:
            raise UsageError(f"run {self.record.name} writes captions: use caption(media)")
        samples, questions = paired(media, question)
        answers = self._answers(samples, questions, top, decoding)
        single = not isinstance(media, list) and isinstance(question, str)
        return answers[0] if single else answers

    @overload
    def caption(self, media: Media, *, top: int = 0, **decoding: object) -> Answer: ...
    @overload
    def caption(self, media: list[Media], *, top: int = 0, **decoding: object) -> list[Answer]: ...
    def caption(
        self, media: Media | list[Media], *, top: int = 0, **decoding: object
    ) -> Answer | list[Answer]:
        """Write a caption of a sample; arguments, result and errors are those of `answer`.

        Examples:
            >>> import epalm
            >>> model = epalm.load("runs/captions")
            >>> [type(caption).__name__ for caption in model.caption(["a.wav", "b.wav"])]
            ['Answer', 'Answer']
        """
        if self.answers_questions:
            raise UsageError(
                f"run {self.record.name} answers questions: use answer(media, question)"
            )
        samples = media if isinstance(media, list) else [media]
        answers = self._answers(samples, [""] * len(samples), top, decoding)
        return answers if isinstance(media, list) else answers[0]

    def score(
        self, media: Media | list[Media], question: str | list[str], answers: Sequence[str]
    ) -> list[list[Answer]]:
        """Log-probabilities of given answers: the exact score of each in a closed vocabulary.

        Examples:
            >>> import epalm
            >>> model = epalm.load("runs/scenes")
            >>> [scored] = model.score("scene.png", "which shape is red?", ["star", "circle"])
            >>> [str(answer) for answer in scored], scored[0].log_probability < 0
            (['star', 'circle'], True)

        Args:
            media: one sample or a list, as in `answer`.
            question: one question or a list, as in `answer`; "" if the run writes captions.
            answers: texts to score, the same for each question.

        Returns:
            For each question the answers in the order given, each with its `log_probability`.

        Raises:
            MediaError: a sample cannot be decoded.
            MissingFileError: a file does not exist.
            UsageError: there is no answer to score, or an argument is impossible.
        """
        if not answers:
            raise UsageError("found no answers to score, expected at least one text")
        samples, questions = paired(media, question, captions=not self.answers_questions)
        return [
            scored
            for features, prompts, keys in self._encoded(samples, questions)
            for scored in score_features(self.loaded, features, prompts, keys, answers)
        ]

    def encode(self, media: Media | list[Media]) -> Features:
        """Features of samples as extraction stores them.

        Examples:
            >>> import epalm
            >>> epalm.load("runs/scenes").encode("scene.png").shape
            (6, 96)

        Args:
            media: one sample, or a list.

        Returns:
            (L, D), or (N, L, D) for a list, in the dtype of the store of training.

        Raises:
            MediaError: a sample cannot be decoded.
        """
        samples = media if isinstance(media, list) else [media]
        with sample_folder() as folder:
            files = SampleFiles(self.modality, Path(folder))
            features = self.encode_items([files.item(sample) for sample in samples])
        return features if isinstance(media, list) else features[0]

    def decode(self, items: Sequence[MediaItem]) -> list[Input | str]:
        """The encoder's input for each sample file, or the reason why there is none."""
        return SampleDecoder(self.encoder.load, self.modality).decode(items)

    def encode_items(self, items: Sequence[MediaItem]) -> Features:
        """Features (N, L, D) of sample files, see `encode`."""
        inputs = require_inputs(self.decode(items))
        return self.encode_inputs(np.stack(inputs)) if inputs else self.no_features()

    def encode_inputs(self, inputs: NDArray[np.generic]) -> Features:
        """Features (N, L, D) of decoded samples, the encoder's inputs (N, ...)."""
        parts = [
            encode(self.encoder, inputs[start : start + BATCH_SIZE], self.encoder)
            for start in range(0, len(inputs), BATCH_SIZE)
        ]
        features = np.concatenate(parts)
        names = [f"sample {number}" for number in range(len(features))]
        valid = np.ones(len(features), np.bool_)
        return cast_features(features, self._dtype, keys=names, valid=valid)

    def answer_features(
        self,
        features: Features,
        prompts: Sequence[str],
        keys: Sequence[str],
        decoding: Decoding,
        *,
        top: int = 0,
        watch: Watch | None = None,
    ) -> list[Answer]:
        """Answers from features, see `epalm.ask.feature_answers.answer_features`."""
        return answer_features(self.loaded, features, prompts, keys, decoding, top=top, watch=watch)

    def decoding(self, **changes: object) -> Decoding:
        """The run's decoding settings with some changed.

        Raises:
            UsageError: an unknown setting, or values that contradict each other.
        """
        return self.record.decoding.changed(changes)

    def _answers(
        self, samples: Sequence[Media], prompts: Sequence[str], top: int, changes: dict[str, object]
    ) -> list[Answer]:
        if not 0 <= top <= MAX_ALTERNATIVES:
            raise UsageError(f"top is {top}, expected 0 to {MAX_ALTERNATIVES} alternatives")
        decoding = self.decoding(**changes)
        return [
            answer
            for features, questions, keys in self._encoded(samples, prompts)
            for answer in self.answer_features(features, questions, keys, decoding, top=top)
        ]

    def _encoded(
        self, samples: Sequence[Media], prompts: Sequence[str]
    ) -> Iterator[tuple[Features, Sequence[str], list[str]]]:
        """Features, prompts and keys of parts of the samples; equal samples are encoded once."""
        for start in range(0, len(samples), WINDOW):
            part = samples[start : start + WINDOW]
            with sample_folder() as folder:
                files = SampleFiles(self.modality, Path(folder))
                items = [files.item(sample) for sample in part]
                unique = list({item.key: item for item in items}.values())
                row = {item.key: index for index, item in enumerate(unique)}
                features = self.encode_items(unique)
            keys = [item.key for item in items]
            yield features[[row[key] for key in keys]], prompts[start : start + WINDOW], keys

    @property
    def _dtype(self) -> str:
        return self.record.store.get("dtype", "float16")

    def no_features(self) -> Features:
        """Features (0, L, D) of no samples."""
        tokens = len(self.encoder.layers) * self.encoder.positions
        return np.empty((0, tokens, self.encoder.width), self._dtype)


def load(run: str | Path, *, lm: str = "", weights: str | Path = "", device: str = AUTO) -> Model:
    """Load a trained run to answer questions about new samples.

    Examples:
        >>> import epalm
        >>> model = epalm.load("runs/scenes")
        >>> model.modality
        'image'

    Args:
        run: folder of a run, its name in `runs`, or user/name of a repository on the hub.
        lm: folder or hub id of the language model; "" for that of training.
        weights: file or folder of the encoder's weights; "" for those of extraction.
        device: name of the torch device, or "auto".

    Raises:
        MissingFileError: there is no such run, or local weights are not where they were.
        ModelError: a model cannot be loaded, or is another one than in training.
        CacheMismatchError: another encoder, e.g. other weights, than in training.
    """
    return Model.from_pretrained(run, lm=lm, weights=weights, device=device)
