"""Training on stores that are parts of one dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from epalm.cache.create_store import create_store
from epalm.cache.store import Store
from epalm.errors import UsageError
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.preparation.eval_preparation import prepare
from epalm.evaluate.run_evaluation import evaluate
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train.cli import app
from tests.train.helpers import BROKEN, World, make_world, train_command
from tests.train.runs.test_several_stores import also, losses, run


def write_parts(world: World, roots: Sequence[Path] = ()) -> list[Path]:
    """The rows of the world's store in two stores, in their order, which dropout depends on.

    Args:
        world: world whose store is divided.
        roots: folder that each part records as that of its dataset; those of the world by default.
    """
    whole = Store.open(world.store)
    features = np.nan_to_num(whole.load_shard(0).astype(np.float32))
    paths = []
    for part, rows in enumerate((slice(21), slice(21, None))):
        keys = list(whole.keys[rows])
        path = world.root / f"part{part}.zarr"
        root = str(roots[part] if roots else world.data)
        store = create_store(path, replace(whole.spec, count=len(keys), data_root=root), keys)
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


@dataclass(frozen=True)
class TwoFolders:
    """Two folders, each with a manifest and a store of its samples.

    The world's samples 0 to 20 are in the first one, 21 to 51 in the second one. Both have examples
    for training and validation.
    """

    world: World
    second: Path

    def command(self, *extra: str) -> Result:
        """`epalm-train --dry-run` on both stores."""
        words = (*also(self.second), "--concatenate", "--variant", "lin", "--dry-run", *extra)
        return CliRunner().invoke(app, train_command(self.world, *words))


@pytest.fixture
def folders(tmp_path: Path) -> TwoFolders:
    world = make_world(tmp_path, epochs=1)
    lines = [
        line
        for split in ("train", "val")
        for line in (world.data / f"{split}.jsonl").read_text().splitlines()
    ]
    roots = [tmp_path / "sA", tmp_path / "sB"]
    for root, rows in zip(roots, (lines[:21], lines[21:]), strict=True):
        root.mkdir()
        (root / "train.jsonl").write_text("\n".join(rows[:-4]))
        (root / "val.jsonl").write_text("\n".join(rows[-4:]))
    first, second = write_parts(world, roots)
    return TwoFolders(replace(world, store=first, data=roots[0]), second)


def test_a_store_of_another_manifest_without_any_example_is_refused(folders: TwoFolders) -> None:
    error = folders.command().exception
    assert isinstance(error, UsageError)
    assert str(error) == (
        f"31 of 52 samples, all of {folders.second}, are in no training example: the examples come "
        f"from {folders.world.data}. Give --data-root with a folder whose files have the examples "
        "of all parts, or leave out the stores that are not needed"
    )


def test_a_store_with_the_samples_of_another_split_causes_a_warning(folders: TwoFolders) -> None:
    (folders.world.data / "test.jsonl").write_text(
        '{"id": "t", "media": "30.png", "prompt": "what color", "answers": ["white"]}'
    )
    result = folders.command()
    assert result.exit_code == 0
    assert f"all of {folders.second}, are in no training or validation example" in result.stderr


def test_a_folder_with_the_examples_of_all_parts_causes_no_warning(folders: TwoFolders) -> None:
    result = folders.command("--data-root", str(folders.world.root / "data"))
    assert result.exit_code == 0
    assert "train: 1 of 40 examples left out" in result.stderr  # the broken sample
    assert "are in no" not in result.stderr


def test_a_limit_causes_no_warning(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=1)
    parts = TwoFolders(replace(world, store=write_parts(world)[0]), tmp_path / "part1.zarr")
    result = parts.command("--train-split", "val", "--limit", "8")
    assert result.exit_code == 0
    assert "are in no" not in result.stderr


def test_evaluation_warns_about_a_store_of_which_no_split_has_an_example(
    folders: TwoFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(folders.world, "--name", "first")
    both = [str(folders.world.store), str(folders.second)]
    options = EvalOptions(run=str(folder.parent / "first"), split="val", device="cpu")
    options = replace(options, features=both, concatenate=True)
    prepare(options)
    expected = f"31 of 52 samples, all of {folders.second}, are in no example of any split"
    assert expected in capsys.readouterr().err
    prepare(replace(options, data_root=folders.world.root / "data"))
    assert "are in no" not in capsys.readouterr().err
