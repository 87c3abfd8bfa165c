"""Extracts, trains and evaluates tiny models in several precisions; prints what was recorded.

Run as `python -m tests.end_to_end.precision_child FOLDER`, with an environment that limits the CPU.
"""

import json
import sys
from pathlib import Path

import numpy as np
import typer
from typer.testing import CliRunner

from epalm.cache.readers.open_reader import open_store
from epalm.cache.store import Store
from epalm.evaluate.cli import app as evaluate_app
from epalm.extract.cli import app as extract_app
from epalm.model.checkpoints.run_record import RunRecord
from epalm.precision import cpu_has_bf16
from epalm.train.cli import app as train_app
from tests.extract.helpers import TINY, random_model, save_photo, save_weights
from tests.train.helpers import logged, make_world, train_command

PRECISIONS = ("fp32", "bf16", "auto")


def main(folder: Path) -> None:
    """Print one JSON object."""
    sys.stdout.write(
        json.dumps(
            {
                "native": cpu_has_bf16(),
                "stores": _extract(folder / "extract"),
                "runs": _train(folder / "train"),
            }
        )
        + "\n"
    )


def _extract(folder: Path) -> dict[str, object]:
    photos = folder / "photos"
    photos.mkdir(parents=True)
    names = [save_photo(photos / f"{number}.png", seed=number).name for number in range(3)]
    lines = [json.dumps({"id": name, "media": name, "answers": ["a"]}) + "\n" for name in names]
    (photos / "train.jsonl").write_text("".join(lines))
    weights = save_weights(random_model("test_vit", num_classes=3), folder / "w.safetensors")
    usual = ["--encoder", TINY, "--weights", weights, "--dataset", photos, "--workers", "0"]
    actual = {}
    for precision in PRECISIONS:
        out = folder / f"{precision}.zarr"
        output = _call(extract_app, *usual, "--out", out, "--precision", precision)
        rows = open_store(out).read(names).astype(float)
        actual[precision] = {
            "recorded": Store.open(out).spec.fingerprint["precision"],
            "warnings": output.count("slow"),
            "norm": float(np.linalg.norm(rows)),
        }
    return actual


def _train(folder: Path) -> dict[str, object]:
    folder.mkdir()
    world = make_world(folder, epochs=1)
    actual = {}
    for precision in PRECISIONS:
        options = ["--name", precision, "--precision", precision]
        output = _call(train_app, *train_command(world, *options))
        run = folder / "runs" / precision
        evaluated = _call(evaluate_app, "--run", run, "--split", "val", "--device", "cpu")
        actual[precision] = {
            "recorded": RunRecord.load(run).model.precision,
            "warnings": output.count("slow"),
            "evaluation warnings": evaluated.count("slow"),
            "loss": logged(world, "train", precision)[-1]["loss"],
        }
    return actual


def _call(app: typer.Typer, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception:
        raise result.exception
    return result.output


if __name__ == "__main__":
    main(Path(sys.argv[1]))
