"""The generation settings of an lmms-eval task as decoding settings of a run."""

from collections.abc import Mapping, Sequence

IGNORED = frozenset({"until"})
"""Settings that are no decoding settings; `cut_at` applies them."""


def decoding_changes(settings: Mapping[str, object]) -> dict[str, object]:
    """Keyword arguments of `epalm.load(...).answer` for the generation settings of a task.

    A task samples if `do_sample` is true or its temperature is above 0, as in other models of
    lmms-eval; otherwise temperature and top-p have no effect and are left out.

    Args:
        settings: `generation_kwargs` of the task.

    Returns:
        Settings of the run's decoding that the task determines.

    Raises:
        ValueError: a setting that has no counterpart.
    """
    known = {"max_new_tokens", "num_beams", "do_sample", "temperature", "top_p"}
    if unknown := sorted(settings.keys() - known - IGNORED):
        raise ValueError(
            f"the task sets {', '.join(unknown)}, and a run of epalm knows "
            f"{', '.join(sorted(known))}: leave it out of the task's generation_kwargs, or give "
            "--model_args decoding=run, which takes the run's own settings"
        )
    given = {name: value for name, value in settings.items() if value is not None}
    changes = {name: given[name] for name in ("max_new_tokens", "num_beams") if name in given}
    if not (given.get("do_sample") or _number(given.get("temperature", 0)) > 0):
        return changes | {"do_sample": False}
    changes.pop("num_beams", None)
    sampling: dict[str, object] = {"do_sample": True}
    for name in ("temperature", "top_p"):
        if name in given:
            sampling[name] = _number(given[name])
    return changes | sampling


def cut_at(text: str, stops: object) -> str:
    """A text up to the first of the task's stop sequences, without the sequence.

    Args:
        text: generated text.
        stops: `until` of the task: one sequence, a list of them, or None.
    """
    sequences: Sequence[str] = [stops] if isinstance(stops, str) else _texts(stops)
    ends = [text.find(stop) for stop in sequences if stop and stop in text]
    return text[: min(ends)] if ends else text


def _texts(stops: object) -> list[str]:
    return [str(stop) for stop in stops] if isinstance(stops, list | tuple) else []


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"found {value!r} as temperature or top_p, expected a number")
    return float(value)
