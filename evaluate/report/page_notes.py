"""The facts and warnings below the heading of a report."""

from collections.abc import Iterator, Sequence

from epalm.evaluate.report.resource_use import Costs
from epalm.evaluate.report.tables import example_count
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.evaluate.scores.result_warnings import warnings_of

BLIND_CONTROL = "blind control"
"""Label of the column of a run's blind control."""


def facts(
    evaluation: Evaluation, costs: Costs | None, transfer: tuple[str, str] | None
) -> list[tuple[str, str]]:
    """Names and values: task, split, number of questions, decoding, trained parameters.

    Args:
        evaluation: the evaluation that determines the gallery.
        costs: time and memory of its run; None if they are not shown.
        transfer: what the run was trained on and what it was evaluated on, if they differ.
    """
    noun = "captions" if evaluation.kind == "caption" else "questions"
    labels = zip(("trained on", "evaluated on"), transfer or (), strict=False)
    decoding = [("decoding", _decoding(evaluation))] if _decoding(evaluation) else []
    trained = [("trained parameters", f"{costs.trained:,}")] if costs else []
    return [
        *labels,
        ("task", evaluation.task),
        ("split", evaluation.split),
        (noun, f"{len(evaluation.predictions):,}"),
        *decoding,
        *trained,
    ]


def blind_notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """A sentence about each blind control, with the label of its column if there are several."""
    notes = []
    for evaluation in evaluations:
        if evaluation.blind:
            note = f"{BLIND_CONTROL}, each example has another sample's features"
            own = evaluation.run.startswith(BLIND_CONTROL)
            prefix = f"{evaluation.run}: " if len(evaluations) > 1 and not own else ""
            notes.append(prefix + note)
    return notes


def page_warnings(evaluations: Sequence[Evaluation]) -> list[str]:
    """Everything that makes a score doubtful, each with the label of its column.

    A warning that all evaluations share has no label and is listed once.
    """
    warnings = [
        (evaluation.run, warning)
        for evaluation in evaluations
        for warning in _warnings(evaluation, evaluations[-1])
    ]
    texts = [text for _, text in warnings]
    shared = {text for text in texts if texts.count(text) == len(evaluations)}
    labeled = [text if text in shared else f"{run}: {text}" for run, text in warnings]
    return list(dict.fromkeys(labeled))


def _warnings(evaluation: Evaluation, last: Evaluation) -> Iterator[str]:
    if evaluation.example_count < evaluation.split_size:
        yield example_count(evaluation)
    if _decoding(evaluation) != _decoding(last):
        yield _decoding(evaluation)
    if evaluation.skipped:
        yield f"{len(evaluation.skipped):,} skipped, their samples are not encoded"
    yield from warnings_of(evaluation)
    for name, reason in evaluation.left_out.items():
        yield f"{name} not computed: {reason}"


def _decoding(evaluation: Evaluation) -> str:
    return evaluation.settings.get("decoding", "")
