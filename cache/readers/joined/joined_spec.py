"""The spec of several stores whose rows are joined by key."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from epalm.cache.spec import StoreSpec
from epalm.portable_path import portable_encoder

JOINED = "joined"
"""Beginning of the fingerprint entries of the second and further stores, "joined.2.encoder"."""

SEPARATOR = " + "
"""Between the names of encoders in a joined spec."""

COMPARED = ("encoder", "layers", "width", "dtype", "positions")
"""Fields of a further store, besides its fingerprint, that determine its features."""


def joined_spec(specs: Sequence[StoreSpec]) -> StoreSpec:
    """The spec of joined stores: that of the first, with the settings of the others.

    The others' settings are entries of its fingerprint, so that all that compares or records a
    spec covers every store. It has the smallest number of views.
    """
    first, *others = specs
    if not others:
        return first
    further: dict[str, str] = {}
    for number, spec in enumerate(others, start=2):
        further |= _entries(spec.comparable(), f"{JOINED}.{number}.")
    return replace(
        first,
        encoder=SEPARATOR.join(portable_encoder(spec.encoder) for spec in specs),
        fingerprint=first.fingerprint | further,
        views=min(spec.views for spec in specs),
        weights="",
    )


def _entries(fields: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Fingerprint entries for the fields of a store that determine its features."""
    entries = {name: fields[name] for name in COMPARED if name in fields}
    entries["encoder"] = portable_encoder(fields["encoder"])
    marked = "fingerprint."
    entries |= {name[len(marked) :]: fields[name] for name in fields if name.startswith(marked)}
    return {prefix + name: value for name, value in entries.items()}
