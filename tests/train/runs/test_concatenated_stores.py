"""Training on stores that are parts of one dataset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.store import Store
from epalm.errors import UsageError
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.run_evaluation import evaluate
from epalm.model.checkpoints.run_record import RunRecord
from tests.train.helpers import BROKEN, World, make_world
from tests.train.runs.test_several_stores import also, losses, run


def write_parts(world: World) -> list[Path]:
    """The rows of the world's store in two stores, in their order, which dropout depends on."""
    whole = Store.open(world.store)
    features = np.nan_to_num(whole.load_shard(0).astype(np.float32))
    paths = []
    for part, rows in enumerate((slice(21), slice(21, None))):
        keys = list(whole.keys[rows])
        path = world.root / f"part{part}.zarr"
        store = create_store(path, replace(whole.spec, count=len(keys)), keys)
        errors = {BROKEN: "cannot be decoded"} if BROKEN in keys else {}
        store.write_shard(0, features[rows], errors)
        store.finish()
        paths.append(path)
    return paths


@pytest.mark.parametrize("reader", ["ram", "stream"])
def test_parts_train_like_the_whole_store_and_are_evaluated(tmp_path: Path, reader: str) -> None:
    world = make_world(tmp_path, epochs=1)
    first, second = write_parts(world)
    parts = replace(world, store=first)
    folder = run(parts, *also(second), "--concatenate", "--name", "parts", "--reader", reader)
    if reader == "ram":  # another numbering of rows gives another block shuffle
        run(world, "--name", "whole", "--reader", reader)
        assert losses(world, "parts") == losses(world, "whole")
    record = RunRecord.load(folder.parent / "parts")
    assert (record.concatenated, len(record.joined)) == (True, 1)
    options = EvalOptions(run=str(folder.parent / "parts"), split="val", device="cpu")
    own = evaluate(options).evaluation
    features = [str(world.store)]
    elsewhere = evaluate(replace(options, features=features, limit=3)).evaluation
    texts = [[one.prediction for one in each.predictions[:3]] for each in (own, elsewhere)]
    assert texts[0] == texts[1]
    with pytest.raises(UsageError, match="with --concatenate"):
        evaluate(replace(options, features=[str(first), str(second)]))
