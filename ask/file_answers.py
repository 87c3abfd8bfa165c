"""Answers about files, of which some may not be readable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epalm.ask.answers import Answer
from epalm.ask.run_model import WINDOW, Model
from epalm.ask.samples import SampleFiles
from epalm.cache.formats.store_format import Features
from epalm.model.method.model_settings import Decoding


@dataclass(frozen=True)
class FileAnswer:
    """The answer about a file, or the reason why there is none.

    Attributes:
        file: path of the file, as it was given.
        question: the question; empty for a caption.
        answer: the answer; None if the file cannot be decoded.
        error: reason why there is no answer; empty if there is one.
    """

    file: str
    question: str
    answer: Answer | None
    error: str = ""


@dataclass(frozen=True)
class EncodedFiles:
    """The features of the files that could be decoded.

    Attributes:
        files: paths of all files, as they were given.
        keys: key of each file whose features there are.
        features: (N, L, D), in the order of `keys`.
        errors: path -> reason of each other file.
    """

    files: Sequence[str]
    keys: dict[str, str]
    features: Features
    errors: dict[str, str]

    @classmethod
    def encode(cls, model: Model, files: Sequence[str]) -> "EncodedFiles":
        """Encode files, each once.

        Raises:
            MissingFileError: a file does not exist.
        """
        sources = SampleFiles(model.modality, Path())
        items = {file: sources.item(file) for file in dict.fromkeys(files)}
        names = list(items)
        keys: dict[str, str] = {}
        errors: dict[str, str] = {}
        parts = [model.no_features()]
        for start in range(0, len(names), WINDOW):
            window = names[start : start + WINDOW]
            decoded = dict(zip(window, model.decode([items[name] for name in window]), strict=True))
            errors |= {name: result for name, result in decoded.items() if isinstance(result, str)}
            inputs = {name: decoded[name] for name in window if name not in errors}
            keys |= {name: items[name].key for name in inputs}
            if inputs:
                parts.append(model.encode_inputs(np.stack([*inputs.values()])))
        features = np.concatenate(parts)
        return cls(files, keys, features, errors)

    def answers(
        self, model: Model, question: str, decoding: Decoding, *, top: int
    ) -> list[FileAnswer]:
        """The answer to a question about each file, in the order of the files."""
        answers = model.answer_features(
            self.features,
            [question] * len(self.keys),
            [*self.keys.values()],
            decoding,
            top=top,
        )
        by_file = dict(zip(self.keys, answers, strict=True))
        return [
            FileAnswer(file, question, by_file.get(file), self.errors.get(file, ""))
            for file in self.files
        ]
