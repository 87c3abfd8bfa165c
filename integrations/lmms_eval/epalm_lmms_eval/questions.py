"""The texts that lmms-eval's tasks give to a model, as prompts of a run."""

from collections.abc import Iterable

INSTRUCTIONS = (
    "\nAnswer the question using a single word or phrase.",
    " Answer the question using a single word or phrase.",
    "\nAnswer the question with a single word or phrase.",
    "\nAnswer with a single word or phrase.",
)
"""Ends of questions that ask for the form of the answer, which a trained run gives anyway."""

IMAGE_TAG = "<image>"
"""What some tasks write where the image is."""


def question_of(context: str, *, plain: bool) -> str:
    """The question of a request.

    Args:
        context: text of the request.
        plain: whether to remove an ending of `INSTRUCTIONS`.
    """
    text = context.replace(IMAGE_TAG, "").strip() if IMAGE_TAG in context else context
    if plain:
        for ending in INSTRUCTIONS:
            text = text.removesuffix(ending)
    return text


def check_same_request(contexts: Iterable[str], *, task: str, run: str) -> None:
    """Refuse different questions to a run that writes captions and reads no question.

    A captioning task has the same request for every image, which the run's own template replaces.

    Args:
        contexts: texts of all requests of a task.
        task: name of the task.
        run: name of the run.

    Raises:
        ValueError: there are several texts.
    """
    different = list(dict.fromkeys(contexts))
    if len(different) > 1:
        raise ValueError(
            f"run {run} writes captions and reads no question, but task {task} asks "
            f"{different[0]!r} and {different[1]!r}: evaluate a run that answers questions"
        )
