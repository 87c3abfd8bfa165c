"""Ranges of every number of a recipe, and of the numbers of `epalm-train`'s options.

Upper bounds only reject obvious mistakes: no published run comes near one.
"""

from collections.abc import Mapping

from epalm.number_ranges import DECODING_RANGES, MODEL_RANGES, Range, check_range

RATE = Range(0, 1000)
"""Range of learning rates that may be 0."""

COUNT = Range(0, 1_000_000_000)
"""Range of numbers of examples and steps."""

SEED = Range(0, 10**12)
"""Range of seeds: dropout is seeded with a million times the seed plus the step, in 64 bits."""

RECIPE_RANGES: Mapping[str, Range] = {
    **DECODING_RANGES,
    **{name: MODEL_RANGES[name] for name in ("prompt_length", "text_step", "lm_dropout")},
    "recompute_layers": Range(0, 10_000),
    "epochs": Range(0, 1_000_000, open_low=True),
    "batch_size": Range(0, 1_000_000, open_low=True),
    "group_questions": Range(0, 1_000_000, open_low=True),
    "bucket_batches": Range(0, 1_000_000),
    "lr": Range(0, 1000, open_low=True),
    "prompt_lr": RATE,
    "adapter_lr": RATE,
    "prompt_delay": COUNT,
    "lm_lr": RATE,
    "weight_decay": Range(0, 1000),
    "loss_weight": Range(0, 1_000_000, open_low=True),
    "label_smoothing": Range(0, 1, open_high=True),
    "clip_norm": Range(0, 1_000_000_000),
    "val_examples": COUNT,
    "loss_examples": COUNT,
    "train_examples": COUNT,
    "train_fraction": Range(0, 1, open_low=True),
    "init_seed": SEED,
}
"""Key of a recipe -> its range."""

SCHEDULE_RANGES: Mapping[str, Range] = {
    "min_lr": RATE,
    "warmup_lr": RATE,
    "warmup_steps": COUNT,
    "warmup_fraction": Range(0, 1),
    "stair_steps": Range(0, 1_000_000_000, open_low=True),
}
"""Key of a recipe's table `schedule` -> its range."""


def check_options(*, seed: int, limit: int) -> None:
    """Refuse option values outside their range.

    Raises:
        UsageError: names the option, what was found and what was expected.
    """
    check_range("--seed", seed, SEED)
    check_range("--limit", limit, COUNT)
