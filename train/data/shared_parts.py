"""What trainings in one process have in common, so that one after the other loads it once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from epalm.model.lent_language_model import LanguageModelLender


class Kept:
    """The values of the last few keys; the others are dropped before a new one is made.

    Keys are compared for equality and need no hash: they contain lists of examples.
    """

    def __init__(self, count: int = 1) -> None:
        """Keep at most `count` values."""
        self._count = count
        self._entries: list[tuple[Any, Any]] = []

    def get(
        self,
        key: object,
        make: Callable[[], Any],
        *,
        fits: Callable[[Any], bool] | None = None,
    ) -> Any:  # noqa: ANN401 - of the type that `make` returns
        """The value of a key, made if it is not kept.

        Args:
            key: what the value depends on.
            make: makes the value; before it is called, old values are dropped from memory.
            fits: whether a kept value can be used, else it is made again; None if it always can.
        """
        for position, (other, value) in enumerate(self._entries):
            if other == key and (fits is None or fits(value)):
                self._entries.append(self._entries.pop(position))
                return value
        self._entries = [entry for entry in self._entries if entry[0] != key]
        del self._entries[: max(len(self._entries) - self._count + 1, 0)]
        made = make()
        self._entries.append((key, made))
        return made

    def clear(self) -> None:
        """Drop all values."""
        self._entries = []


@dataclass
class SharedParts:
    """The parts of one training that the next one can use.

    Each is kept for the last training only, so that memory is that of one training.

    Attributes:
        lender: the frozen language model.
        examples: encoded examples of two splits, by store, task and split.
        source: open features with the order of their reader, by the samples that are read.
        texts: tokenized training texts, by language model, template and examples.
        text_states: open cached text states, by texts, language model and layer.
        planned: whether the memory of all trainings has been planned before the first one.
    """

    lender: LanguageModelLender = field(default_factory=LanguageModelLender)
    examples: Kept = field(default_factory=lambda: Kept(2))
    source: Kept = field(default_factory=Kept)
    texts: Kept = field(default_factory=Kept)
    text_states: Kept = field(default_factory=Kept)
    planned: bool = False

    def clear(self) -> None:
        """Drop everything, e.g. after a training that failed."""
        self.lender.clear()
        for kept in (self.examples, self.source, self.texts, self.text_states):
            kept.clear()
