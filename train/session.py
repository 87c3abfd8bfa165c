"""From names on the command line to a finished run: what `epalm-train` and the demo call."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.cache.reader import BlindSource
from epalm.cache.spec import StoreSpec
from epalm.cache.store import FeatureSource
from epalm.console import duration
from epalm.errors import CacheMismatchError, ModelError
from epalm.metrics.registry import load_metric
from epalm.model.decode import generate_all
from epalm.model.epalm import EPALM, trainable
from epalm.model.language_model import weights_digest
from epalm.model.saved import ModelSettings, RunRecord, build_model
from epalm.tasks.records import Example, Prediction, Task
from epalm.train.checkpoint import Progress
from epalm.train.fit import Run, fit
from epalm.train.loader import Loader, encodable, read_tokens
from epalm.train.recipe import Recipe
from epalm.train.run_folder import open_run_folder, write_card

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to train.

    Attributes:
        folder: the run's folder; its last part is the run's name.
        task: what is asked.
        data_root: where the task's files lie.
        features: path of the store, for the record.
        source: the store, opened.
        recipe: all settings.
        recipe_name: for the record.
        seed: of initialisation, order, answers and dropout.
        device: e.g. "cpu" or "cuda".
        blind: train on other media's features.
        limit: use only the first examples of each split; 0 for all.
        fresh: delete a run that is there.
        quiet: show no progress.
    """

    folder: Path
    task: Task
    data_root: Path
    features: Path
    source: FeatureSource
    recipe: Recipe
    recipe_name: str
    seed: int = 0
    device: str = "cpu"
    blind: bool = False
    limit: int = 0
    fresh: bool = False
    quiet: bool = False


def train(request: Request) -> RunRecord:
    """Train, or go on with, a run; see `epalm.train.fit.fit` for what is raised."""
    import torch

    spec = request.source.spec
    check_store(spec, request.recipe)
    train_examples = _examples(request, request.task.train_split)
    val_examples = _examples(request, request.task.val_split)
    source = request.source
    if request.blind:
        groups = [[example.key for example in part] for part in (train_examples, val_examples)]
        source = BlindSource(source, groups, request.seed)
    val_examples = _draw(val_examples, request.recipe.val_examples, request.seed)
    settings = request.recipe.model_settings(
        request.task.kind, width=spec.width, cached=len(spec.layers)
    )
    torch.manual_seed(request.seed)
    model, tokenizer = build_model(settings)
    record = _record(request, settings, model)
    open_run_folder(request.folder, record, request.recipe.to_toml(), fresh=request.fresh)
    _announce(record, model, len(train_examples), len(val_examples))
    run = Run(
        folder=request.folder,
        model=model.to(request.device),
        loader=Loader(
            train_examples,
            source,
            tokenizer,
            settings.text_template(),
            request.recipe.batch_size,
            request.seed,
        ),
        recipe=request.recipe,
        validate=_Validation(request, settings, model, tokenizer, val_examples, source),
        seed=request.seed,
        quiet=request.quiet,
    )
    progress = fit(run)
    if weights_digest(model.language_model) != record.lm_digest:
        raise ModelError("the frozen language model changed in training: do not use this run")
    _finish(request, record, progress)
    return record


def check_store(spec: StoreSpec, recipe: Recipe) -> None:
    """Compare the store with what the recipe wants.

    Raises:
        CacheMismatchError: another encoder or another preprocessing.
    """
    preset = spec.fingerprint.get("preprocessing.name", "")
    found = {"encoder": spec.encoder, "preprocessing": preset}
    for name, value in found.items():
        wanted = getattr(recipe, name)
        if wanted and wanted != value:
            raise CacheMismatchError(
                f"the store's {name} is {value!r}, the recipe wants {wanted!r}: run "
                f"`epalm-extract --{name} {wanted} --dataset {spec.dataset}`, or train with "
                f"`--set {name}={value}` or another recipe"
            )


class _Validation:
    """Generates for the validation examples and scores the texts by the task's metric."""

    def __init__(
        self,
        request: Request,
        settings: ModelSettings,
        model: EPALM,
        tokenizer: PreTrainedTokenizerBase,
        examples: list[Example],
        source: FeatureSource,
    ) -> None:
        self.recipe = request.recipe
        self.template = settings.text_template()
        self.model = model
        self.tokenizer = tokenizer
        self.examples = examples
        self.source = source
        self.metric = load_metric(request.task.metric)

    def __call__(self) -> dict[str, float]:
        """Scores, the selecting one first."""
        texts = generate_all(
            self.model,
            self.tokenizer,
            self.template,
            [example.prompt for example in self.examples],
            self._read,
            decoding=self.recipe.decoding(),
            batch_size=self.recipe.batch_size,
            tick=_no_progress,
        )
        pairs = zip(self.examples, texts, strict=True)
        predictions = [
            Prediction(example.question_id, example.key, text) for example, text in pairs
        ]
        scores = self.metric(predictions, self.examples)
        head = {scores.headline: scores.values[scores.headline]}
        return head | scores.values

    def _read(self, places: list[int]) -> Tensor:
        return read_tokens(self.source, [self.examples[place] for place in places])


def _no_progress(count: int) -> None:
    del count


def _examples(request: Request, split: str) -> list[Example]:
    examples = request.task.examples(split, request.data_root)
    if request.limit:
        examples = examples[: request.limit]
    kept = encodable(examples, request.source)
    if len(kept) < len(examples):
        logger.warning(
            "%s: %d of %d examples left out, their medium could not be encoded",
            split,
            len(examples) - len(kept),
            len(examples),
        )
    return kept


def _draw(examples: list[Example], count: int, seed: int) -> list[Example]:
    if not 0 < count < len(examples):
        return examples
    places = np.random.default_rng(seed).permutation(len(examples))[:count]
    return [examples[place] for place in sorted(places)]


def _record(request: Request, settings: ModelSettings, model: EPALM) -> RunRecord:
    spec = request.source.spec
    return RunRecord(
        name=request.folder.name,
        task=request.task.name,
        recipe=request.recipe_name,
        model=settings,
        decoding=request.recipe.decoding(),
        features=str(request.features),
        store=spec.comparable(),
        data_root=str(request.data_root),
        seed=request.seed,
        blind=request.blind,
        lm_digest=weights_digest(model.language_model),
        trained=sum(weight.numel() for _, weight in trainable(model)),
        frozen=sum(weight.numel() for weight in model.language_model.parameters()),
    )


def _announce(record: RunRecord, model: EPALM, train_count: int, val_count: int) -> None:
    share = 100 * record.trained / (record.trained + record.frozen)
    logger.info(
        "%s: %s on %s, %d training and %d validation examples%s",
        record.name,
        record.model.variant,
        record.model.lm,
        train_count,
        val_count,
        ", blind control" if record.blind else "",
    )
    logger.info(
        "training %s of %s parameters (%.4f %%)",
        f"{record.trained:,}",
        f"{record.trained + record.frozen:,}",
        share,
    )
    logger.info("%s", model.plan)


def _finish(request: Request, record: RunRecord, progress: Progress) -> None:
    best = {
        "best validation score": f"{100 * progress.best_score:.2f} (epoch {progress.best_epoch})",
        "time": duration(progress.seconds),
    }
    write_card(request.folder, record, best)
    logger.info(
        "done in %s, best epoch %d: %s",
        duration(progress.seconds),
        progress.best_epoch,
        request.folder,
    )
