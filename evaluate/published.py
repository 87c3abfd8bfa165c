"""Published figures of eP-ALM by task, to stand beside one's own.

Sources: Shukor, Dancette, Cord, "eP-ALM: Efficient Perceptual Augmentation of Language Models",
arXiv 2303.11403, by table or figure, and the README of its code. Values as printed, times 100.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """One figure.

    Attributes:
        method: as the paper calls it, with the models where it says them.
        metric: the key of `Evaluation.scores` that measures the same.
        value: times 100.
        on: the split, and what else was special.
        source: where it stands.
    """

    method: str
    metric: str
    value: float
    on: str
    source: str


_PT_L = "eP-ALM pt-L (OPT-6.7B, ViT-L/16)"
_PT = "eP-ALM pt-L (4.2 million trained)"
_PT_CLIP = "eP-ALM pt-L with CLIP"
_FROM_CC3M = "trained on CC3M alone"
_SMALL = "OPT-350M, ViT-B/16, answers sampled"
_FIRST_CODE = "README of the code"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "vqa2": (
        Published(_PT_L, "accuracy", 54.89, "test-std", "table 1"),
        Published(_PT_L, "accuracy", 54.78, "val-std", "table 1"),
        Published("eP-ALM", "accuracy", 52.77, "val-std", "table 3"),
        Published(_PT_L, "accuracy", 45.19, "val, trained on GQA", "table 4"),
        Published("eP-ALM", "accuracy", 47.4, "val-std, 10 % of the data", "table 3"),
        Published("eP-ALM", "accuracy", 41.9, "val-std, 1 % of the data", "table 3"),
        Published("eP-ALM ada", "accuracy", 34.34, _SMALL, "figure 3"),
        Published("eP-ALM", "accuracy", 33.08, _SMALL, "figure 3"),
        Published("eP-ALM pt", "accuracy", 31.27, _SMALL, "figure 3"),
        Published("eP-ALM lin", "accuracy", 30.72, _SMALL, "figure 3"),
        Published("baseline MAGMA", "accuracy", 23.3, _SMALL, "figure 3"),
        Published("baseline PromptFuse", "accuracy", 18.82, _SMALL, "figure 3"),
        Published("baseline LimBEr", "accuracy", 10.75, _SMALL, "figure 3"),
    ),
    "gqa": (
        Published(_PT_L, "accuracy", 42.91, "test", "table 1"),
        Published(_PT_L, "accuracy", 41.39, "val, trained on VQA v2", "table 4"),
    ),
    "coco-caption": (
        Published(_PT_L, "CIDEr", 111.63, "Karpathy test", "table 1"),
        Published(_PT_L, "BLEU-4", 33.35, "Karpathy test", "table 1"),
        Published("eP-ALM (OPT-2.7B)", "CIDEr", 97.0, "Karpathy test", _FIRST_CODE),
        Published(_PT_CLIP, "CIDEr", 51.29, _FROM_CC3M, "table 10"),
        Published(_PT_CLIP, "BLEU-4", 12.97, _FROM_CC3M, "table 10"),
        Published(_PT, "CIDEr", 42.47, _FROM_CC3M, "table 10"),
        Published(_PT, "BLEU-4", 11.50, _FROM_CC3M, "table 10"),
    ),
    "nocaps-caption": (
        Published(_PT_CLIP, "CIDEr", 39.5, _FROM_CC3M, "table 10"),
        Published(_PT_CLIP, "BLEU-4", 13.30, _FROM_CC3M, "table 10"),
        Published(_PT_CLIP, "METEOR", 15.55, _FROM_CC3M, "table 10"),
        Published(_PT, "CIDEr", 36.79, _FROM_CC3M, "table 10"),
        Published(_PT, "BLEU-4", 12.53, _FROM_CC3M, "table 10"),
        Published(_PT, "METEOR", 15.50, _FROM_CC3M, "table 10"),
    ),
    "msvd-qa": (
        Published(_PT_L, "accuracy", 38.40, "test", "table 1"),
        Published("eP-ALM trained on VQA v2", "accuracy", 24.82, "test, zero-shot", "table 6"),
        Published(
            "eP-ALM trained on VQA v2, 1,000 answers ranked",
            "accuracy",
            27.09,
            "test, zero-shot",
            "table 6",
        ),
    ),
    "msrvtt-qa": (
        Published(_PT_L, "accuracy", 35.90, "test", "table 1"),
        Published("eP-ALM trained on VQA v2", "accuracy", 13.17, "test, zero-shot", "table 6"),
        Published(
            "eP-ALM trained on VQA v2, 1,000 answers ranked",
            "accuracy",
            14.54,
            "test, zero-shot",
            "table 6",
        ),
    ),
    "msrvtt-caption": (
        Published(_PT_L, "CIDEr", 48.79, "test", "table 1"),
        Published(_PT_L, "BLEU-4", 38.51, "test", "table 1"),
    ),
    "audiocaps-caption": (
        Published("eP-ALM (0.90 % trained)", "CIDEr", 63.61, "test", "table 7"),
        Published("eP-ALM (0.90 % trained)", "BLEU-1", 66.08, "test", "table 7"),
        Published("eP-ALM (0.90 % trained)", "BLEU-2", 47.57, "test", "table 7"),
        Published("eP-ALM (0.90 % trained)", "METEOR", 22.69, "test", "table 7"),
        Published("eP-ALM (0.90 % trained)", "SPICE", 16.29, "test", "table 7"),
        Published(_PT_L, "CIDEr", 61.86, "test", "table 1"),
        Published(_PT_L, "BLEU-4", 20.81, "test", "table 1"),
    ),
}
"""Task -> figures, the strongest of the headline first."""


def published(task: str) -> tuple[Published, ...]:
    """The task's figures; none for a task of one's own."""
    return PUBLISHED.get(task, ())
