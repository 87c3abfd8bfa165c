"""The sizes that a store has had: a store that grows keeps its rows and adds new ones after them.

A generation is the number of rows at one time, with the digest of the store at that time. A shard
whose last rows did not exist yet has fewer rows in an earlier generation than in a later one: it
has a version of each length. Its first version is named after the shard alone ("00012"), each
longer one after its number of rows, too ("00012-700"). Shards that are full have one version.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import NamedTuple


class ShardVersion(NamedTuple):
    """A version of a shard.

    Attributes:
        rows: number of rows.
        name: name of the version in file names.
    """

    rows: int
    name: str


@dataclass(frozen=True)
class Generations:
    """The generations of a store, the first one first.

    Attributes:
        shard_rows: rows of a full shard.
        counts: number of rows of each generation, ascending.
        digests: digest of the store in each generation, see `StoreSpec.digest`.
    """

    shard_rows: int
    counts: tuple[int, ...]
    digests: tuple[str, ...]

    @property
    def latest(self) -> int:
        """Number of the last generation."""
        return len(self.counts) - 1

    def until(self, generation: int) -> "Generations":
        """The generations up to one of them."""
        return Generations(
            self.shard_rows, self.counts[: generation + 1], self.digests[: generation + 1]
        )

    def with_next(self, count: int, digest: str) -> "Generations":
        """These generations and one more."""
        return Generations(self.shard_rows, (*self.counts, count), (*self.digests, digest))

    def version(self, shard: int, rows: int) -> "ShardVersion":
        """The version of a shard with a number of rows."""
        first = self._version_rows(shard)[:1]
        return ShardVersion(rows, f"{shard:05d}" + ("" if rows in first else f"-{rows}"))

    def versions(self, shard: int) -> list["ShardVersion"]:
        """Every version of a shard, ascending; empty if the shard does not exist."""
        return [self.version(shard, rows) for rows in self._version_rows(shard)]

    def _version_rows(self, shard: int) -> list[int]:
        start, stop = shard * self.shard_rows, (shard + 1) * self.shard_rows
        partial = self.counts[bisect_right(self.counts, start) : bisect_left(self.counts, stop)]
        full = [self.shard_rows] if self.counts[-1] >= stop else []
        return [count - start for count in partial] + full

    def first_with(self, shard: int, rows: int) -> int:
        """Number of the first generation in which a shard has at least this number of rows."""
        return bisect_left(self.counts, shard * self.shard_rows + rows)

    def digest_of(self, shard: int, rows: int) -> str:
        """The digest in the commit record of a version of a shard."""
        return self.digests[self.first_with(shard, rows)]
