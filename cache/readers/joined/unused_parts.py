"""Parts of one dataset whose samples are in no example."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from epalm.cache.readers.joined.concatenated import ConcatenatedIndex
from epalm.cache.readers.joined.joined_stores import AnyIndex, JoinedStores
from epalm.cache.store import Store


def unused_parts(
    stores: JoinedStores, index: AnyIndex, samples: Iterable[Sequence[str]]
) -> tuple[Store, ...]:
    """The parts of one dataset that have none of some samples; none if the stores are no parts.

    Args:
        stores: the stores.
        index: index of their keys.
        samples: keys of samples, several at a time; read until every part has one of them.
    """
    if not isinstance(index, ConcatenatedIndex):
        return ()
    unused = set(range(len(index.parts)))
    for keys in samples:
        unused -= {part for part in unused if index.parts[part].has(keys).any()}
        if not unused:
            break
    return tuple(stores.stores[part] for part in sorted(unused))


def mistaken_parts(
    stores: JoinedStores,
    index: AnyIndex,
    parts: Sequence[Store],
    *,
    root: Path,
    listed: Iterable[Sequence[str]],
) -> tuple[Store, ...]:
    """Those of some parts that were certainly named by mistake.

    They were extracted from another folder than the first part, whose folder has the examples, and
    none of its splits has their samples. If the examples come from a folder that the user has
    chosen, the folders of the parts tell nothing.

    Args:
        stores: the stores.
        index: index of their keys.
        parts: some of them.
        root: folder of the examples.
        listed: keys of the samples of each split of this folder; read only where it is needed.
    """
    if not _is_folder(stores.first, root):
        return ()
    foreign = [part for part in parts if part.spec.data_root and not _is_folder(part, root)]
    absent = unused_parts(stores, index, listed) if foreign else ()
    return tuple(part for part in foreign if part in absent)


def unused_message(
    stores: JoinedStores, parts: Sequence[Store], *, examples: str, root: Path
) -> str:
    """Say which samples are in no example, and what to do.

    Args:
        stores: the stores.
        parts: those without an example.
        examples: kind of the examples, e.g. "training example".
        root: folder of the examples.
    """
    count = sum(part.spec.count for part in parts)
    names = " and ".join(part.location for part in parts)
    return (
        f"{count} of {stores.spec.count} samples, all of {names}, are in no {examples}: the "
        f"examples come from {root}. Give --data-root with a folder whose files have the examples "
        "of all parts, or leave out the stores that are not needed"
    )


def _is_folder(store: Store, root: Path) -> bool:
    """Whether a store was extracted from this folder."""
    recorded = store.spec.data_root
    return bool(recorded) and Path(recorded).resolve() == root.resolve()
