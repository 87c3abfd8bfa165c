"""The examples of a split whose samples are encoded in a store."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from epalm.errors import StoreError


class Keyed(Protocol):
    """Anything about one sample of a store."""

    @property
    def key(self) -> str:
        """Key of the sample."""


class Validity(Protocol):
    """A feature source, or the key index of one."""

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample could be encoded."""


Example = TypeVar("Example", bound=Keyed)


def encoded_examples(examples: Sequence[Example], source: Validity) -> list[Example]:
    """The examples whose sample could be encoded.

    Raises:
        StoreError: there is none.
        UnknownKeyError: a sample is not in the store at all.
    """
    valid = source.valid([example.key for example in examples])
    encoded = [example for example, ok in zip(examples, valid, strict=True) if ok]
    if not encoded:
        raise StoreError(
            f"none of {len(examples)} examples has a sample that could be encoded: see the "
            "store's errors.jsonl"
        )
    return encoded
