"""What is measured on this machine, with encoders whose numbers are known."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from epalm.extract.decoding.decode_batch import LoadedBatch
from epalm.extract.estimate.extraction_estimate import estimate
from epalm.extract.estimate.speed_measurement import (
    SpeedMeasurement,
    count_flops,
    first_samples,
    spread,
    timed_run,
)
from epalm.extract.planning.extraction_plan import Plan, RunOptions
from epalm.extract.planning.process_shards import ALL
from epalm.tasks.types import MediaItem
from tests.extract.estimate.test_run_cost import store_spec
from tests.extract.helpers import CountingEncoder, numbered


class AttentionEncoder(CountingEncoder):
    """5 tokens of width 4: a product with a (4, 4) matrix, then attention of one head."""

    def blocks(
        self, batch: torch.Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[torch.Tensor]:
        tokens = torch.ones(len(batch), 1, 5, 4) @ torch.ones(4, 4)
        functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return super().blocks(batch, layers=layers, positions=positions)


def make_plan(tmp_path: Path, encoder: CountingEncoder, items: list[MediaItem]) -> Plan:
    options = RunOptions(batch_size=4, workers=0, quiet=True)
    return Plan(
        encoder,  # type: ignore[arg-type]
        tuple(items),
        store_spec(len(items)),
        str(tmp_path / "s.zarr"),
        None,
        options,
        ALL,
        tmp_path,
    )


def test_flops_are_those_of_products_and_attention(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, AttentionEncoder(), numbered(3))
    batch = LoadedBatch(
        rows=[0], views=[0], inputs=torch.zeros(2, 1, 1).numpy(), errors={}, samples=1
    )
    # 2 x (5 x 4 x 4) for the product, and 2 x (5 x 4 x 5) for each of two products of attention
    assert count_flops(plan, batch) == 160 + 2 * 200


def test_the_first_samples_are_encoded_once_each(tmp_path: Path) -> None:
    encoder = AttentionEncoder()
    speed = first_samples(make_plan(tmp_path, encoder, numbered(40, broken=[3])))
    assert (speed.views, speed.read_seconds, speed.measured) == (31, 0.0, False)
    assert speed.flops == 560
    assert speed.decode_seconds is not None
    assert list(tmp_path.iterdir()) == []


def test_a_timed_run_measures_every_stage_and_leaves_nothing(tmp_path: Path) -> None:
    encoder = AttentionEncoder()
    speed = timed_run(make_plan(tmp_path, encoder, numbered(40, broken=[3])), 0.5)
    assert speed.views > 40  # samples are encoded again and again
    assert speed.per_second > 0
    assert speed.decode_seconds is not None and 0 < speed.decode_seconds < 0.5
    assert 0 < speed.read_seconds < 0.5
    assert (speed.flops, speed.measured) == (560, True)
    assert list(tmp_path.iterdir()) == []


def test_samples_that_cannot_be_decoded_give_no_time(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, AttentionEncoder(), numbered(3, broken=[0, 1, 2]))
    for measure in (None, 0.2):
        result = estimate(plan, 3, measure=measure, price_per_hour=1.0)
        assert (result.seconds, result.hours, result.per_million) == (None, None, None)
        assert (result.gpus, result.break_even_epochs) == ([], None)


def test_samples_are_spread_over_the_dataset_in_a_fixed_order() -> None:
    items = numbered(1000)
    first = [int(item.path.stem) for item in islice(spread(items), 100)]
    assert first == [int(item.path.stem) for item in islice(spread(items), 100)]
    assert len(set(first)) == 100
    assert 350 < sum(first) / 100 < 650


def test_views_multiply_time_and_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 views per second at two views per sample: a million samples take 20,000 s."""
    speed = SpeedMeasurement(50, 100.0, 0.02, 0.001, 1e9, measured=True)
    monkeypatch.setattr(
        "epalm.extract.estimate.extraction_estimate.timed_run", lambda plan, seconds: speed
    )
    plan = make_plan(tmp_path, CountingEncoder(), numbered(1000))
    plan = replace(plan, spec=replace(plan.spec, views=2))
    result = estimate(plan, 1000, measure=1.0, price_per_hour=1.8)
    assert (result.per_second, result.seconds) == (50.0, 20.0)
    assert result.hours == pytest.approx(20 / 3600)
    assert result.per_million == pytest.approx(10.0)  # 20,000 s = 5.56 hours at 1.80
    t4 = result.gpus[0]
    assert t4.decoders == pytest.approx(t4.per_second * 0.04, abs=0.1)
