"""Training with cached text states gives the same losses as computing them in every step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from epalm.cache.maintenance.verify import verify_deep
from epalm.errors import UsageError
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.train.cli import app
from epalm.train.data.cached_text_states import make_stores, open_text_states
from epalm.train.data.tokenized_texts import Text
from tests.model.helpers import tiny_opt, tiny_variant
from tests.train.helpers import logged, make_world, train_command

TEXTS: list[Text] = [([2, 9, 4], [7, 2]), ([2, 5], [2]), ([2, 9, 4, 8], [11, 12, 2]), ([2, 6], [2])]


def batch_of(texts: list[Text]) -> Batch:
    """Right-padded; the first and the last text ask about one picture."""
    rows = [torch.tensor([*head, *tail]) for head, tail in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
    mask = (torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]).long()
    labels = ids.masked_fill(mask == 0, IGNORED)
    tokens = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(5))
    return Batch(tokens, ids, mask, labels, torch.tensor([0, 1, 2, 0]))


def taught(model: EPALM, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    losses = model(batch).per_example()
    losses.mean().backward()
    gradients = {
        name: weight.grad for name, weight in trainable_parameters(model) if weight.grad is not None
    }
    return losses.detach(), gradients


@pytest.mark.parametrize("norm", ["pre-LN", "post-LN"])
@pytest.mark.parametrize("tail", ["causal", "official", "drop", "to-end"])
@pytest.mark.parametrize("variant", ["lin", "6-connectors", "late", "late-deep", "late-ada"])
def test_stored_states_give_the_same_losses_and_gradients(
    tmp_path: Path, variant: str, tail: str, norm: str
) -> None:
    lm = tiny_opt(layers=5, pre_norm=norm == "pre-LN", projected=norm == "post-LN")
    model = tiny_variant(lm, variant, inject="2:4", tail=tail)
    states = open_text_states(tmp_path, model, TEXTS, digest="d", quiet=True)
    batch = batch_of(TEXTS)
    losses, gradients = taught(model, batch)
    actual, own = taught(model, replace(batch, text_states=states.read(TEXTS)))
    assert torch.allclose(actual, losses, atol=1e-5)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(own[name], gradient, rtol=1e-4, atol=1e-6), name


def test_half_precision_keeps_its_states_to_the_bit(tmp_path: Path) -> None:
    model = tiny_variant(tiny_opt(layers=5).to(torch.bfloat16), "lin", inject="2:4")
    states = open_text_states(tmp_path, model, TEXTS, digest="d", quiet=True).read(TEXTS)
    batch = batch_of(TEXTS)
    expected = model.lower_text_states(batch.input_ids, batch.attention_mask)
    assert states.dtype == torch.float16
    large = expected.abs() > 2**-14  # below, float16 has fewer digits than bfloat16
    assert torch.equal(states[large].bfloat16(), expected[large])
    assert torch.allclose(states.float(), expected.float(), atol=2**-25)


def test_each_distinct_text_is_computed_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_variant(tiny_opt(layers=5), "lin", inject="2:4")
    asked: list[int] = []
    compute = EPALM.lower_text_states

    def count(self: EPALM, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        asked.append(len(ids))
        return compute(self, ids, mask)

    monkeypatch.setattr(EPALM, "lower_text_states", count)
    stores = make_stores(tmp_path, model, [*TEXTS, *TEXTS], digest="d", quiet=True)
    assert sorted(asked) == [1, 1, 2]
    assert {length: store.spec.shape for length, store in stores.items()} == {
        3: (2, 1, 3, 24),
        5: (1, 1, 5, 24),
        7: (1, 1, 7, 24),
    }
    make_stores(tmp_path, model, TEXTS, digest="d", quiet=True)
    assert len(asked) == 3
    stores[5].storage.delete([stores[5].commit_record_name(0)])
    make_stores(tmp_path, model, TEXTS, digest="d", quiet=True)
    assert asked[3:] == [1]
    for store in stores.values():
        assert not list(verify_deep(store))
    make_stores(tmp_path, model, TEXTS, digest="of other weights", quiet=True)
    assert len(asked) == 7


@pytest.mark.parametrize(
    ("variant", "changes"),
    [("full", {}), ("ada", {}), ("lin", {"lm_dropout": 0.1}), ("limber", {})],
)
def test_texts_that_depend_on_what_is_trained_are_refused(
    tmp_path: Path, variant: str, changes: dict[str, float]
) -> None:
    model = tiny_variant(tiny_opt(layers=5), variant, **changes)
    with pytest.raises(UsageError, match="trains nothing below the injection"):
        make_stores(tmp_path, model, TEXTS, digest="d", quiet=True)


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    command = train_command(world, "--text-states", str(tmp_path / "texts"), "--quiet")
    with pytest.raises(UsageError, match="trains nothing below the injection"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "runs" / "run").exists()


def test_a_run_with_stored_states_has_the_losses_of_one_without(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    common = ("--variant", "lin", "--set", "lm_dropout=0.0", "--quiet")
    folder = str(tmp_path / "texts")
    for name, extra in (
        ("plain", ()),
        ("stored", ("--text-states", folder)),
        ("again", ("--text-states", folder)),
    ):
        result = CliRunner().invoke(app, [*train_command(world, *common, *extra), "--name", name])
        assert result.exit_code == 0, result.output
    expected = [line["loss"] for line in logged(world, "train", "plain")]
    for name in ("stored", "again"):
        actual = [line["loss"] for line in logged(world, "train", name)]
        assert actual == pytest.approx(expected, abs=1e-5)
