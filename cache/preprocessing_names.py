"""Names of the preprocessing of encoders, as users write them and as stores record them."""

PAPER, NATIVE = "paper", "native"
"""`paper` is that of eP-ALM's code for every encoder, `native` the encoder's own."""

RECORDED = {PAPER: "official", "official": "official", NATIVE: NATIVE}
"""Name that users write -> name in fingerprints. `official` is the earlier name of `paper`."""


def recorded_preprocessing(name: str) -> str:
    """The name in fingerprints of a preprocessing; unknown names are returned as they are."""
    return RECORDED.get(name, name)


def written_preprocessing(recorded: str) -> str:
    """The name that users write for a preprocessing in a fingerprint."""
    return PAPER if recorded == RECORDED[PAPER] else recorded
