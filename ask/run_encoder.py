"""The encoder of a run's features, from the run's record."""

from dataclasses import replace
from pathlib import Path

from epalm.errors import MissingFileError, UsageError
from epalm.extract.encoders.recorded_encoder import RecordedEncoder
from epalm.extract.encoders.tokens.token_encoder import TokenEncoder
from epalm.model.checkpoints.run_record import RunRecord
from epalm.plugins import TypedName

BUNDLED_ENCODERS = frozenset(
    f"epalm.demo.encoder:{name}" for name in ("micro_vit", "micro_timesformer", "micro_ast")
)
"""Encoders that come with this package, whose names in a file are trusted."""


def load_encoder(record: RunRecord, weights: str, device: str) -> TokenEncoder:
    """The encoder of a run's features, compared with the run's record.

    Args:
        record: record of the run.
        weights: file or folder of the weights; "" for the published ones.
        device: name of the torch device.
    """
    return recorded_encoder(record).load(weights, device)


def recorded_encoder(record: RunRecord) -> RecordedEncoder:
    """How the features of a run were extracted.

    Raises:
        UsageError: they are those of several encoders.
    """
    if record.joined and not record.concatenated:
        raise UsageError(
            f"run {record.name} reads the features of several encoders "
            f"({record.store.get('encoder')}), and new files are encoded with one: evaluate it on "
            "stores with `epalm-eval --split val`, or train a run on one of the stores"
        )
    recorded = RecordedEncoder.from_fields(record.store)
    if recorded.name in BUNDLED_ENCODERS:
        return replace(recorded, name=TypedName(recorded.name))
    return recorded


def weights_location(record: RunRecord, given: str) -> str:
    """Where the encoder's weights are; "" for the published ones.

    Raises:
        MissingFileError: they are not where they were at extraction, or where they are given.
    """
    location = given or record.weights
    if location and not Path(location).exists():
        advice = "correct --weights" if given else "give their place with --weights"
        raise MissingFileError(
            f"the weights of the encoder {record.store.get('encoder')} of run {record.name} are "
            f"not at {location}: {advice}"
        )
    return str(Path(location).absolute()) if location else ""
