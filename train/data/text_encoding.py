"""Token ids of a run's texts, checked to fit the positions of the language model."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from epalm.model.engine.language_model import load_config
from epalm.model.engine.length_check import check_lengths, check_prompt_lengths, excerpt
from epalm.model.families.family import text_positions
from epalm.model.generation.batched_generation import generation_limit
from epalm.model.method.model_settings import ModelSettings
from epalm.model.text.text_encoder import CHECKED_TEXTS, TextEncoder, resolve_template
from epalm.model.text.tokenizer import ANSWER_SEPARATOR, load_tokenizer
from epalm.tasks.types import Example
from epalm.train.config.recipe import Recipe
from epalm.train.data.shared_parts import SharedParts
from epalm.train.data.tokenized_texts import TokenizedTexts, possible_answers
from epalm.train.options.train_config import DataConfig

logger = logging.getLogger(__name__)


def resolve_text_settings(settings: ModelSettings) -> ModelSettings:
    """The settings with a template that the language model has tokens for.

    Raises:
        ModelError: configuration or tokenizer cannot be loaded.
    """
    if ANSWER_SEPARATOR not in settings.template:
        return settings
    config = load_config(settings.lm, settings.precision)
    template = resolve_template(settings, load_tokenizer(settings.lm), config.vocab_size)
    return replace(settings, template=template)


def encode_texts(
    data: DataConfig,
    recipe: Recipe,
    settings: ModelSettings,
    train: Sequence[Example],
    val: Sequence[Example],
    *,
    shared: SharedParts | None = None,
) -> TokenizedTexts:
    """Tokenize the training texts; no weights are read.

    Args:
        data: task and folder, for messages.
        recipe: splits and decoding settings.
        settings: settings of the model.
        train: training examples.
        val: validation examples.
        shared: parts that earlier trainings in this process have loaded; None for none.

    Raises:
        ModelError: a training text, or a validation prompt with the longest answer, has more tokens
            than the language model has positions; names split and example.
    """
    config, task = load_config(settings.lm, settings.precision), data.task
    template, positions = settings.text_template(), text_positions(config)
    text = TextEncoder.create(load_tokenizer(settings.lm), template, config)

    def tokenize() -> TokenizedTexts:
        _log_text_format(text, train)
        return TokenizedTexts(text, train)

    kept = (shared or SharedParts()).texts
    texts: TokenizedTexts = kept.get((settings.lm, template, train), tokenize)
    prompts, answers = texts.longest()
    check_lengths(
        prompts,
        [tokens for tokens, _ in answers],
        [example.question_id for example in train],
        positions=positions,
        answer_label=lambda index: excerpt(answers[index][1]),
        source=_location(data, recipe.train_split or task.train_split),
    )
    val_prompts = text.prompt_ids([example.prompt for example in val])
    check_prompt_lengths(
        [len(ids) for ids in val_prompts],
        [example.question_id for example in val],
        generation_limit(recipe.decoding()),
        positions=positions,
        source=_location(data, recipe.val_split or task.val_split),
    )
    return texts


def _log_text_format(text: TextEncoder, train: Sequence[Example]) -> None:
    """Log the tokens around a text, and warn if prompt and answer would be merged in one text."""
    names = text.tokenizer.convert_ids_to_tokens
    logger.info(
        "texts begin with %s and end with %s",
        " ".join(map(str, names(list(text.begin)))) or "the prompt",
        names(text.ends[0]),
    )
    pairs = [(example.prompt, possible_answers(example)[0]) for example in train[:CHECKED_TEXTS]]
    if merged := text.merged_borders(pairs):
        logger.warning(
            "in %d of %d texts the tokenizer would join the end of the prompt and the beginning of "
            "the answer in one token: they are encoded apart, in training and in generation; a "
            "template with a space or a line break before {answer} avoids it",
            merged,
            len(pairs),
        )


def _location(data: DataConfig, split: str) -> str:
    return f"{split} of {data.task.name} in {data.root}: "
