"""Evaluation of features that are averaged over views."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.errors import UsageError
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.run_evaluation import evaluate
from epalm.evaluate.scores.eval_results import Evaluation
from tests.evaluate.helpers import COLORS, TinyRun, make_run, store_spec


def write_views(path: Path, values: np.ndarray) -> str:
    """A store of features (N, V, L, D)."""
    spec = replace(store_spec(), views=values.shape[1])
    sink = create_store(path, spec, list(COLORS))
    sink.write_shard(0, values, {})
    sink.finish()
    return str(path)


def evaluated(tiny: TinyRun, store: str, *, views: int = 1) -> Evaluation:
    options = EvalOptions(
        run=str(tiny.folder), split="val", features=[store], quiet=True, views=views, device="cpu"
    )
    return evaluate(options).evaluation


def test_answers_are_those_to_a_store_of_the_means(tmp_path: Path) -> None:
    tiny = make_run(tmp_path)
    shape = (len(COLORS), 3, *store_spec().row_shape[1:])
    values = 0.75 * np.random.default_rng(1).integers(-2, 3, shape).astype(np.float16)
    several = write_views(tmp_path / "several.zarr", values)
    mean = write_views(
        tmp_path / "mean.zarr", values.mean(axis=1, keepdims=True)
    )  # exact in float16
    actual, expected = evaluated(tiny, several, views=3), evaluated(tiny, mean)
    fewer = evaluated(tiny, several, views=2)
    confidences = [
        [record.log_probability for record in one.predictions] for one in (actual, expected, fewer)
    ]
    assert confidences[0] == pytest.approx(confidences[1], abs=1e-5)
    assert confidences[0] != pytest.approx(confidences[2], abs=1e-2)
    assert [record.prediction for record in actual.predictions] == [
        record.prediction for record in expected.predictions
    ]
    assert actual.settings["evaluated on"].endswith(", mean of 3 views")
    assert (tiny.folder / "eval" / "val-views3" / "scores.json").is_file()
    with pytest.raises(UsageError, match="the store has 3"):
        evaluated(tiny, several, views=4)
