"""Metrics: scores of predictions against reference answers.

>>> import epalm
>>> epalm.metrics.exact_match(["lamp"], [["lamp", "a lamp"]])
1.0
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epalm.metrics.plain_metrics import (
        bleu,
        caption_scores,
        cider,
        exact_match,
        rouge_l,
        vqa_accuracy,
    )

__all__ = ["bleu", "caption_scores", "cider", "exact_match", "rouge_l", "vqa_accuracy"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of the functions
    """Import the functions on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("epalm.metrics.plain_metrics"), name)
