"""Recipes: every setting of a training run, read from a TOML file.

A recipe is found by name in the folder `recipes`, or by path. Unknown keys are refused. A file
with `extends = "vqa2"` overrides some settings of another recipe.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import tomli_w

from epalm.cache.spec import StoreSpec
from epalm.errors import RecipeError
from epalm.model.method.injection import Tail
from epalm.model.method.model_settings import Decoding, ModelSettings, Supervision, Template
from epalm.model.method.resampler_shape import DEFAULT_RESAMPLER, ResamplerShape
from epalm.model.method.variants import find_variant
from epalm.number_ranges import check_ranges
from epalm.tasks.types import Kind
from epalm.train.config.config_io import Change, apply_change, build
from epalm.train.config.recipe_file import known_recipes, read_recipe_file
from epalm.train.config.recipe_ranges import RECIPE_RANGES, SCHEDULE_RANGES
from epalm.train.config.renamed_keys import current_key
from epalm.train.config.store_tokens import source_settings

FALLBACK_RECIPE = "small"
"""The recipe of tasks without a published one."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate of every step, for all parameter groups without a constant rate of their own.

    Attributes:
        kind: "published" is the official implementation's: stairs in the first epoch, then one
            value per epoch on a cosine; "cosine" is linear warm-up and a cosine per step.
        min_lr: learning rate at the end of the cosine.
        warmup_lr: learning rate at the start of warm-up.
        warmup_steps: number of stairs (published) or of optimizer steps (cosine).
        stair_steps: optimizer steps per stair (published).
        warmup_fraction: more than 0 gives the length of warm-up as a fraction of the run's steps,
            in place of `warmup_steps` (cosine).
    """

    kind: Literal["published", "cosine"]
    min_lr: float
    warmup_lr: float
    warmup_steps: int
    stair_steps: int = 1
    warmup_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers outside their range, and a fraction where warm-up is stairs.

        Raises:
            RecipeError: names the key, what was found and what was expected.
        """
        check_ranges(self, SCHEDULE_RANGES, RecipeError)
        if self.warmup_fraction and self.kind != "cosine":
            raise RecipeError(
                f"warmup_fraction is {self.warmup_fraction}, but a schedule of kind {self.kind} "
                'has stairs: set warmup_steps and stair_steps, or kind = "cosine"'
            )


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes:
        lm: language model: hub id or local folder, see docs/reference/language_models.md.
        lm_precision: precision of the frozen weights: "fp32", "bf16", "fp16", "int8", "int4", or
            "auto", see `epalm.train.run_training.resolve_precision`.
        encoder: encoder whose features the recipe is for; empty for any.
        preprocessing: preprocessing of these features: "paper" (also called "official") or
            "native"; empty for any. Another one is warned about.
        variant: method variant, see `epalm.model.method.variants`.
        prompt_length: soft prompt tokens, of each layer if the prompt is deep.
        source_layers: which of the encoder's blocks in the store are used: "all", "last-6", or
            numbers such as "0,5,11"; "auto" for those of the variant, most often the last six
            (section 3.2 of the paper) or fewer.
        inject: decoder layers to inject: "FIRST:STOP", "FIRST:end", or "auto" for the variant's
            own.
        tail: what the layers after the injection see, see `epalm.model.method.injection.Tail`.
        text_step: inject at every `text_step`-th layer, see
            `epalm.model.method.injection.plan_injection`.
        lm_dropout: hidden dropout of the frozen language model while training.
        recompute_layers: number of the language model's last layers whose activations are
            recomputed in the backward pass (activation checkpointing): less memory, more time, the
            same results.
        qa_template: how a question and its answer become text.
        caption_template: how a caption becomes text.
        begin_token: token that begins a text: "auto" for the tokenizer's own, "none", or the text
            of a token, see `epalm.model.method.model_settings.Template`.
        chat: texts are a user's message and its answer in the tokenizer's chat template.
        supervise: "all" text tokens or the "answer" only.
        init_seed: seed of the trained weights' initialization, so that runs with different seeds
            start alike and can be averaged; 0 for the run's seed.
        epochs: passes over the training examples.
        batch_size: examples per step, over all processes.
        group_questions: number of questions about one sample that meet in a batch, which makes a
            step cheaper and its examples more alike; 1 leaves the order.
        bucket_batches: texts of similar length meet within windows of this number of batches; 0
            leaves the order.
        lr: learning rate of connectors, and of prompt and adapters unless they have their own.
        prompt_lr: learning rate of the prompt; 0 to let it follow `lr`.
        adapter_lr: learning rate of the adapters; 0 to let it follow `lr`.
        lm_lr: learning rate of the language model, where the variant trains it.
        scheduled_rates: whether these three follow the schedule in proportion to `lr`; otherwise
            they are constant, as published.
        prompt_delay: number of first steps that train the other parts without any prompt tokens.
        weight_decay: weight decay of AdamW, on every trainable tensor.
        schedule: learning rate over the steps.
        loss_weight: factor on the loss.
        normalize: "sample" sums a sample's tokens and averages over the batch, as published;
            "token" averages over all supervised tokens.
        label_smoothing: probability mass spread over the vocabulary.
        clip_norm: largest norm of the gradient; 0 turns clipping off.
        max_new_tokens: largest number of generated tokens.
        num_beams: width of beam search; 1 is greedy.
        do_sample: sample instead of searching, see `epalm.model.method.model_settings.Decoding`.
        temperature: temperature of sampling.
        top_p: probability mass of nucleus sampling.
        compiled: "layers" compiles the decoder layers for training, which takes minutes and saves
            launches on a GPU; "nothing" is faster on a CPU.
        val_examples: number of validation examples, drawn with the run's seed; 0 for all.
        loss_examples: number of these that validation loss and image gain are computed on; 0 for
            all.
        best_by: figure that selects the best epoch: "score" is the task's main metric, "loss" the
            lowest validation loss, "image_gain" the highest image gain.
        train_split: split to train on; empty for the task's own.
        val_split: split that selects the best epoch; empty for the task's own.
        train_examples: number of training examples, drawn with the run's seed; 0 for all. A smaller
            number or fraction draws a subset of what a larger one does.
        train_fraction: fraction of the training examples, more than 0 and at most 1.
        resampler: queries, layers and width of the resampler, where the variant has one.
    """

    lm: str
    lm_precision: str
    variant: str
    epochs: int
    batch_size: int
    lr: float
    schedule: Schedule
    qa_template: str
    caption_template: str
    supervise: Supervision
    normalize: Literal["sample", "token"]
    encoder: str = ""
    preprocessing: str = ""
    prompt_length: int = 10
    source_layers: str = "auto"
    inject: str = "auto"
    tail: Tail = "causal"
    text_step: int = 1
    lm_dropout: float = 0.0
    recompute_layers: int = 0
    prompt_lr: float = 0.0
    adapter_lr: float = 0.0
    lm_lr: float = 1e-7
    scheduled_rates: bool = False
    prompt_delay: int = 0
    weight_decay: float = 0.0
    loss_weight: float = 1.0
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    max_new_tokens: int = 20
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    compiled: Literal["nothing", "layers"] = "nothing"
    begin_token: str = "auto"
    chat: bool = False
    val_examples: int = 0
    loss_examples: int = 1000
    best_by: Literal["score", "loss", "image_gain"] = "score"
    group_questions: int = 1
    bucket_batches: int = 0
    init_seed: int = 0
    train_split: str = ""
    val_split: str = ""
    train_examples: int = 0
    train_fraction: float = 1.0
    resampler: ResamplerShape = DEFAULT_RESAMPLER

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            RecipeError: names the key, what was found and what was expected.
        """
        check_ranges(self, RECIPE_RANGES, RecipeError)
        if self.train_examples and self.train_fraction < 1:
            raise RecipeError("train_examples and train_fraction exclude each other: set one")
        self.decoding()
        find_variant(self.variant)
        Template(self.qa_template, self.supervise)
        Template(self.caption_template, self.supervise)

    def decoding(self) -> Decoding:
        """Decoding settings of validation and, by default, of evaluation."""
        return Decoding(
            self.max_new_tokens,
            self.num_beams,
            do_sample=self.do_sample,
            temperature=self.temperature,
            top_p=self.top_p,
        )

    def model_settings(self, kind: Kind, spec: StoreSpec, *further: StoreSpec) -> ModelSettings:
        """Settings of the model for a task of `kind` and the features of stores.

        Args:
            kind: kind of the task.
            spec: the store, or the first one.
            further: the others, whose rows are joined to those of the first.

        Raises:
            UsageError: a store lacks a block of `source_layers`.
            CacheMismatchError: the variant cannot use a store's tokens, see `source_settings`.
        """
        source, *others = (
            source_settings(each, self.variant, self.source_layers) for each in (spec, *further)
        )
        return ModelSettings(
            lm=self.lm,
            precision=self.lm_precision,
            variant=self.variant,
            encoder_width=source.encoder_width,
            cached=len(source.blocks),
            prompt_length=self.prompt_length,
            inject=self.inject,
            tail=self.tail,
            lm_dropout=self.lm_dropout,
            template=self.qa_template if kind == "qa" else self.caption_template,
            supervise=self.supervise,
            text_step=self.text_step,
            blocks=source.blocks,
            positions=source.positions,
            injected_tokens=source.injected_tokens,
            begin_token=self.begin_token,
            chat=self.chat,
            resampler=self.resampler,
            sources=(source, *others) if others else (),
        )

    def to_toml(self) -> str:
        """The text of a TOML file that loads to the same recipe."""
        return tomli_w.dumps(asdict(self))


def default_recipe(task: str) -> str:
    """The published recipe of a task if there is one, else `FALLBACK_RECIPE`."""
    return task if task in known_recipes() else FALLBACK_RECIPE


def load_recipe(name: str, changes: Sequence[Change] = ()) -> Recipe:
    """The recipe of that name or path, with changes applied in their order.

    Args:
        name: an entry of `known_recipes`, or the path of a TOML file.
        changes: keys with their new values; `parse_changes` makes them from text.

    Raises:
        RecipeError: no such recipe, an unknown key, a value of the wrong type.
    """
    table = read_recipe_file(name)
    for key, value in changes:
        apply_change(table, (current_key(key), value))
    recipe: Recipe = build(Recipe, table, where=str(name))
    return recipe


def data_amount_changes(train_examples: int, train_fraction: float) -> list[Change]:
    """Changes of a recipe that set the number, or the fraction, of training examples.

    Args:
        train_examples: number of training examples; 0 for no change.
        train_fraction: fraction of the training examples; 0 for no change.

    Raises:
        RecipeError: both are given.
    """
    if train_examples and train_fraction:
        raise RecipeError("--train-examples and --train-fraction exclude each other: give one")
    if train_examples:
        return [("train_examples", train_examples), ("train_fraction", 1.0)]
    return [("train_fraction", train_fraction), ("train_examples", 0)] if train_fraction else []
