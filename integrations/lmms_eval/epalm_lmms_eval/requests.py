"""The requests of lmms-eval in a form that names their parts, and their order in batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """A question about a document of a task.

    Attributes:
        context: text of the request.
        to_visual: function from a document to its samples.
        doc_id: index of the document.
        task: name of the task.
        split: name of the split.
    """

    context: str
    to_visual: Callable[[Any], Any]
    doc_id: int
    task: str
    split: str

    @property
    def name(self) -> tuple[str, str, int, str]:
        """What requests about one document with one text have in common."""
        return self.task, self.split, self.doc_id, self.context


def parse(arguments: Sequence[Any]) -> Request:
    """A request from the arguments of an instance: its text, something else, and four more.

    Raises:
        ValueError: it has no sample, as those of the metric acc_mutual_info.
    """
    if len(arguments) != 6:
        raise ValueError(
            f"found a request of {len(arguments)} arguments, which has no sample (the metric "
            "acc_mutual_info makes such): use a task whose requests have one, and the metric acc"
        )
    context, _, to_visual, doc_id, task, split = arguments
    return Request(context, to_visual, int(doc_id), task, split)


def batches(keys: Iterable[object], size: int) -> list[list[int]]:
    """Rows with equal keys, in batches of at most `size`, in order of first appearance.

    Args:
        keys: what each row must share with the others of its batch; compared by `repr`.
        size: largest batch.
    """
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(repr(key), []).append(row)
    return [
        rows[start : start + size]
        for rows in groups.values()
        for start in range(0, len(rows), size)
    ]


def choices_of(
    requests: Sequence[Request], texts: Sequence[str]
) -> Mapping[tuple[str, str, int, str], dict[str, None]]:
    """Name of each question -> the different texts to score for it, in order."""
    choices: dict[tuple[str, str, int, str], dict[str, None]] = {}
    for request, text in zip(requests, texts, strict=True):
        choices.setdefault(request.name, {})[text] = None
    return choices
