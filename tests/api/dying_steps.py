"""Steps of a pipeline of Ray Data whose process dies once, if the file of GATE exists."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from epalm.api.batch_encoder import Encode
from epalm.api.store_datasink import StoreDatasink
from tests.extract.engines.fast_encoder import GATE


def die_once() -> None:
    """End this process without any clean-up, unless another one has done so."""
    try:
        Path(os.environ[GATE]).unlink()
    except FileNotFoundError:
        return
    os._exit(1)


class DyingEncode(Encode):
    """Dies with the batch of a sample of the second shard."""

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, Any]:
        if "100.png" in batch["key"]:
            die_once()
        return super().__call__(batch, rank)


class DyingSink(StoreDatasink):  # type: ignore[misc]
    """Dies when it has written its shards, before Ray Data learns of it."""

    def write(self, blocks: Iterable[Any], ctx: Any) -> int:  # noqa: ANN401
        written: int = super().write(blocks, ctx)
        die_once()
        return written
