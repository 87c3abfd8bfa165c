"""The commands as functions: `epalm.extract`, `epalm.train`, `epalm.evaluate`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epalm.api.command_values import options_from
from epalm.api.sample_files import Samples, sample_set
from epalm.errors import UsageError
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.api.feature_store import FeatureStore
    from epalm.evaluate.scores.eval_results import Evaluation


def train(features: str | Path | Sequence[str | Path], **options: Any) -> Path:  # noqa: ANN401 - as the command line
    """Train a run on stored features, or resume it, as `epalm-train` does.

    Examples:
        >>> import epalm
        >>> options = {"lm": "models/opt-micro", "set": {"epochs": 1, "max_new_tokens": 3}}
        >>> store = "cache/image.zarr"
        >>> run = epalm.train(store, recipe="small", name="first", quiet=True, **options)
        >>> epalm.load(run)
        Model('first', ...)

    Args:
        features: path or URL of the feature store; several of them are joined by key.
        options: the options of `epalm-train`, e.g. `recipe="small"`, `set={"lr": 1e-3}`.

    Returns:
        The run folder.

    Raises:
        EpalmError: as the command, with its message.
    """
    from epalm.train.cli import app
    from epalm.train.options.command_options import TrainOptions

    stores = features if isinstance(features, str | Path) else list(features)
    given = options_from(TrainOptions, app, {**options, "features": stores}, function="epalm.train")
    if given.dry_run:
        raise UsageError("dry_run prints an estimate: use `epalm-train --dry-run`")

    from epalm.train.options.resolve_options import resolve_options
    from epalm.train.run_training import train as train_run

    data, model, runtime = resolve_options(given, given.features or [])
    train_run(data, model, runtime)
    return runtime.folder


def evaluate(run: str | Path = "", split: str = "val", **options: Any) -> "Evaluation":  # noqa: ANN401
    """Answer and score a split with a trained run, as `epalm-eval` does.

    Examples:
        >>> import epalm
        >>> evaluation = epalm.evaluate("runs/scenes", "test", beams=2, quiet=True)
        >>> sorted(evaluation.scores)
        ['exact_match', 'normalised_match']

    Args:
        run: folder of the run, or its name in `runs`; "" for the newest.
        split: split to evaluate.
        options: the options of `epalm-eval`, e.g. `beams=3`.

    Returns:
        Scores as fractions with 95 % intervals, and every prediction.

    Raises:
        EpalmError: as the command, with its message.
    """
    from epalm.evaluate.cli import app
    from epalm.evaluate.preparation.eval_options import EvalOptions
    from epalm.evaluate.run_evaluation import evaluate as evaluate_run

    values = {**options, "run": str(run), "split": split}
    return evaluate_run(
        options_from(EvalOptions, app, values, function="epalm.evaluate")
    ).evaluation


def extract(
    encoder: str,
    dataset: str | Path = "",
    *,
    samples: Samples | None = None,
    **options: Any,  # noqa: ANN401
) -> "FeatureStore":
    """Encode every sample of a dataset once, or resume that, as `epalm-extract` does.

    Examples:
        >>> import epalm
        >>> encoder = "epalm.demo.encoder:micro_vit"  # comes with this package
        >>> store = epalm.extract(encoder, samples=["scene.png"], out="own.zarr", quiet=True)
        >>> store["scene.png"].shape
        (6, 96)

    Args:
        encoder: name of the encoder.
        dataset: name of a dataset, or path of a manifest.
        samples: files in place of a dataset. Keys are the paths as they are given, or those of a
            mapping from keys to paths.
        options: the options of `epalm-extract`, e.g. `tokens="mean"`; `modality` is that of
            `samples`, by default "image".

    Returns:
        The store; its `failed` lists the samples that could not be encoded.

    Raises:
        EpalmError: as the command, with its message.
    """
    from epalm.api.feature_store import FeatureStore
    from epalm.extract.cli import app
    from epalm.extract.planning.extract_options import ExtractOptions

    if (samples is None) == (not dataset):
        raise UsageError("epalm.extract needs a dataset or samples, and not both")
    media = sample_set(samples, options.pop("modality", "image")) if samples is not None else None
    values = {**options, "encoder": encoder, "dataset": str(dataset)}
    given = options_from(ExtractOptions, app, values, function="epalm.extract")
    if given.dry_run or given.benchmark or given.shard or given.measure or given.price_per_hour:
        raise UsageError(
            "dry_run, measure, price_per_hour, benchmark and shard are for the command line: "
            "epalm-extract"
        )

    from epalm.extract.fill_store import run_options

    typed = replace(given, encoder=TypedName(encoder), dataset=TypedName(str(dataset)))
    return FeatureStore(run_options(typed, media=media).store)
