"""A store of each token policy, whose extraction is killed and resumed, is byte-identical."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.extract.encoders.tokens.block_tokens import BlockTokens, image_grid
from epalm.extract.encoders.tokens.token_encoder import TokenEncoder, with_tokens
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from tests.cache.helpers import file_contents
from tests.extract.helpers import CountingEncoder, numbered

ITEMS = numbered(64 * 5 + 3, broken=[70])
OPTIONS = RunOptions(batch_size=32, workers=0, quiet=True)
BATCH_SECONDS = 0.02

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


class GridEncoder(CountingEncoder):
    """[CLS] and 2 x 2 patches."""

    positions = 5
    has_attention_pool = True
    slow = False

    def __init__(self) -> None:
        super().__init__()
        tokens = BlockTokens(4, 1, class_token=True, axes=image_grid(2, 2))
        self.outputs = [tokens] * self.depth

    def blocks(
        self, batch: torch.Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[torch.Tensor]:
        time.sleep(BATCH_SECONDS if self.slow else 0)
        return super().blocks(batch, layers=layers, positions=positions)

    def attention_pool(self, batch: torch.Tensor) -> torch.Tensor:
        time.sleep(BATCH_SECONDS if self.slow else 0)
        return batch[:, 0].repeat(1, 4) + 0.25


def opened(path: Path, encoder: TokenEncoder) -> Store:
    spec = StoreSpec(
        dataset="numbers",
        encoder=encoder.name,
        fingerprint=encoder.fingerprint(),
        layers=encoder.layers,
        width=encoder.width,
        count=len(ITEMS),
        positions=encoder.positions,
        shard_rows=64,
    )
    return create_store(path, spec, [item.key for item in ITEMS])


def extract_slowly(path: Path, policy: str) -> None:
    slow = GridEncoder()
    slow.slow = True
    encoder = with_tokens(slow, policy)
    extract(encoder, ITEMS, opened(path, encoder), options=OPTIONS)


@pytest.mark.parametrize("policy", ["cls", "mean", "pool:1x2", "all", "map"])
def test_a_killed_and_resumed_store_has_the_same_bytes(policy: str, tmp_path: Path) -> None:
    encoder = with_tokens(GridEncoder(), policy)
    whole = opened(tmp_path / "whole" / "s.zarr", encoder)
    extract(encoder, ITEMS, whole, options=OPTIONS)
    path = tmp_path / "killed" / "s.zarr"
    child = os.fork()
    if not child:
        extract_slowly(path, policy)
        os._exit(0)
    while not Store.at(path).exists() or len(Store.at(path).missing_shards()) == whole.spec.shards:
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    resumed = opened(path, encoder)
    assert resumed.missing_shards(), "the kill came too late"
    report = extract(encoder, ITEMS, resumed, options=OPTIONS)
    assert (report.missing, report.failed) == (0, 1)
    assert file_contents(resumed) == file_contents(whole)
    assert resumed.spec.tokens == policy
