"""The preprocessing of an extraction whose options specify none."""

import logging

from epalm.cache.preprocessing_names import (
    NATIVE,
    PAPER,
    RECORDED,
    recorded_preprocessing,
    written_preprocessing,
)
from epalm.extract.encoders.encoder_names import ENCODERS, SHORTHANDS

PAPER_DATASETS = (
    *("coco", "coco-test2015", "gqa", "nocaps", "cc3m"),
    *("msrvtt", "msvd", "audiocaps"),
)
"""Datasets whose recipes reproduce the paper, which reads features of its own preprocessing."""

logger = logging.getLogger(__name__)


def choose_preprocessing(option: str | None, *, encoder: str, dataset: str, recorded: str) -> str:
    """The name in fingerprints of the preprocessing of an extraction.

    Args:
        option: value of --preprocessing; None if it is not given.
        encoder: value of --encoder.
        dataset: value of --dataset.
        recorded: preprocessing of the store that is resumed; "" for a new store.
    """
    if option is not None:
        return recorded_preprocessing(option)
    default = recorded_preprocessing(default_preprocessing(encoder, dataset))
    if recorded not in RECORDED.values() or recorded == default:  # a user's encoder has its own
        return default
    name = written_preprocessing(recorded)
    logger.info("--preprocessing %s, as in the store; --fresh takes the default", name)
    return recorded


def default_preprocessing(encoder: str, dataset: str) -> str:
    """The default of --preprocessing.

    The encoders of the paper keep its preprocessing on the datasets of its recipes, so that these
    are reproduced. Everywhere else encoders get the images that they were trained on: captions of
    Flickr8k score CIDEr 18.2 with the encoder's own constants and 15 with the paper's. A factory of
    the user's receives `paper`, and need not read it.
    """
    if encoder.startswith(tuple(SHORTHANDS)):
        return NATIVE
    if encoder not in ENCODERS:
        return PAPER
    return PAPER if dataset in PAPER_DATASETS else NATIVE
