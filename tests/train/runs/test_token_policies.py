"""Training on stores of each token policy."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from epalm.cache.create_store import create_store
from epalm.cache.readers.open_reader import open_store
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, UsageError
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.epalm import trainable_parameters
from epalm.model.generation.decode import generate
from epalm.model.method.model_settings import Decoding
from epalm.model.method.resampler_shape import ResamplerShape
from epalm.train.cli import app
from tests.train.helpers import World, logged, make_world, train_command

TOKENS = 3


def with_tokens(
    world: World,
    name: str,
    *,
    changed: slice = slice(0),
    policy: str = "all",
    class_token: bool = True,
    positions: int = TOKENS,
) -> World:
    """The world with a store of several tokens, some of them drawn with another seed."""
    old = Store.open(world.store)
    fingerprint = old.spec.fingerprint | {"token": policy}
    fingerprint |= {} if class_token else {"class_token": "none"}
    spec = replace(old.spec, positions=positions, fingerprint=fingerprint)
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
        ("limber-all", slice(TOKENS, None), True),
        ("resampler", slice(TOKENS, None), True),
        ("resampler-inner", slice(0, TOKENS), False),
        ("magma", slice(TOKENS + 1, None), False),
        ("magma", slice(TOKENS, TOKENS + 1), True),
    ],
    ids=["last", "other", "limber", "resampler", "resampler's other", "patches", "cls"],
)
def test_a_variant_reads_its_tokens_of_the_last_block_and_no_others(
    tmp_path: Path, *, variant: str, changed: slice, matters: bool
) -> None:
    world = make_world(tmp_path, epochs=1)
    one = losses(with_tokens(world, "one.zarr"), variant, "one")
    other = losses(with_tokens(world, "other.zarr", changed=changed), variant, "other")
    assert (one != other) == matters


@pytest.mark.parametrize(
    ("variant", "changed", "matters"),
    [
        ("full", slice(TOKENS - 1, TOKENS), True),
        ("limber", slice(2 * TOKENS - 1, None), True),
        ("limber", slice(0, TOKENS), False),
    ],
    ids=["last cell of the first block", "last cell of the last block", "first block"],
)
def test_every_cell_of_a_pooled_grid_is_injected(
    tmp_path: Path, *, variant: str, changed: slice, matters: bool
) -> None:
    world = make_world(tmp_path, epochs=1)
    pooled = partial(with_tokens, world, policy="pool:1x3", class_token=False)
    one, other = pooled("one.zarr"), pooled("other.zarr", changed=changed)
    assert (losses(one, variant, "one") != losses(other, variant, "other")) == matters


@pytest.mark.parametrize("policy", ["mean", "map", "pool:1x1"])
def test_the_only_token_of_a_block_is_used_like_a_class_token(tmp_path: Path, policy: str) -> None:
    world = make_world(tmp_path, epochs=1)
    named: dict[str, Any] = {"policy": policy, "class_token": False, "positions": 1}
    single = losses(with_tokens(world, "single.zarr", **named), "full", "single")
    cls = losses(with_tokens(world, "cls.zarr", policy="cls", positions=1), "full", "cls")
    assert single == cls


def test_patches_without_a_class_token_are_refused_with_what_to_do(tmp_path: Path) -> None:
    world = with_tokens(make_world(tmp_path, epochs=1), "patches.zarr", class_token=False)
    advice = r"--tokens mean`.*--tokens pool:2x2`.*--variant resampler`"
    with pytest.raises(CacheMismatchError, match=f"none of which is a class token.*{advice}"):
        losses(world, "full", "refused")
    assert not (tmp_path / "runs" / "refused").exists()
    assert losses(world, "magma-all-tokens", "all")


def test_a_tail_for_one_visual_token_is_refused_for_a_pooled_grid(tmp_path: Path) -> None:
    world = with_tokens(make_world(tmp_path), "pooled.zarr", policy="pool:1x3")
    words = train_command(world, "--set", "tail=official")
    with pytest.raises(UsageError, match=r"single visual token, found 3 .*use tail 'causal'"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_the_variant_that_reads_all_tokens_refuses_a_store_of_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tokens all"):
        losses(make_world(tmp_path), "magma-all-tokens", "run")


def test_a_run_with_a_resampler_learns_is_kept_and_generates(tmp_path: Path) -> None:
    world = with_tokens(make_world(tmp_path), "tokens.zarr")
    shape = ("--set", "resampler.queries=5", "--set", "resampler.layers=1")
    words = train_command(world, "--variant", "resampler", "--set", "inject=auto", *shape)
    CliRunner().invoke(app, words, catch_exceptions=False)
    folder = tmp_path / "runs" / "run"
    found = [line["loss"] for line in logged(world, "train")]
    assert found[-1] < found[0]
    loaded = load_run(folder)
    assert loaded.record.model.resampler == ResamplerShape(queries=5, layers=1)
    trained = dict(trainable_parameters(loaded.model))
    kept = load_file(folder / "adapter.safetensors")
    assert kept.keys() == trained.keys()
    assert all(torch.equal(kept[name], weight) for name, weight in trained.items())
    features = torch.as_tensor(open_store(world.store).read(["40.png"]))
    ids = torch.tensor([[2, 5, 6]])
    assert generate(loaded.model, features, ids, torch.ones_like(ids), Decoding(2, 1)).shape
    with pytest.raises(UsageError, match=r"resampler in recipe\.toml"):
        other = train_command(world, "--variant", "resampler", "--set", "inject=auto")
        CliRunner().invoke(app, other, catch_exceptions=False)
