"""Training on a store that keeps all tokens of a block."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from epalm.cache.create_store import create_store
from epalm.cache.store import Store
from epalm.errors import UsageError
from epalm.train.cli import app
from tests.train.helpers import World, logged, make_world, train_command

TOKENS = 3


def with_all_tokens(world: World, name: str, *, changed: slice) -> World:
    """The world with a store of all tokens, those of some vectors drawn with another seed."""
    old = Store.open(world.store)
    fingerprint = old.spec.fingerprint | {"token": "all"}
    spec = replace(old.spec, positions=TOKENS, fingerprint=fingerprint)
    tokens, others = (np.random.default_rng(seed).normal(size=spec.shape) for seed in (0, 1))
    tokens[:, :, changed] = others[:, :, changed]
    store = create_store(world.root / name, spec, old.keys)
    store.write_shard(0, tokens.astype(np.float32), {})
    store.finish()
    return replace(world, store=world.root / name)


def losses(world: World, variant: str, name: str) -> list[float]:
    """Of an epoch of ten steps and the validation behind it."""
    words = train_command(world, "--variant", variant, "--set", "inject=auto", "--name", name)
    result = CliRunner().invoke(app, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return [line["loss"] for line in logged(world, "train", name)]


@pytest.mark.parametrize(
    ("variant", "changed", "matters"),
    [
        ("magma-all-tokens", slice(TOKENS, None), True),
        ("magma-all-tokens", slice(0, TOKENS), False),
        ("magma", slice(TOKENS + 1, None), False),
        ("magma", slice(TOKENS, TOKENS + 1), True),
    ],
    ids=["last block", "other blocks", "patches", "cls"],
)
def test_a_variant_reads_its_tokens_of_the_last_block_and_no_others(
    tmp_path: Path, *, variant: str, changed: slice, matters: bool
) -> None:
    world = make_world(tmp_path, epochs=1)
    one = losses(with_all_tokens(world, "one.zarr", changed=slice(0)), variant, "one")
    other = losses(with_all_tokens(world, "other.zarr", changed=changed), variant, "other")
    assert (one != other) == matters


def test_the_variant_that_reads_all_tokens_refuses_a_store_of_cls(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tokens all"):
        losses(make_world(tmp_path), "magma-all-tokens", "run")
