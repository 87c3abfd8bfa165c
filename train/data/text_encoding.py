"""Token ids of a run's texts, checked to fit the positions of the language model."""

from collections.abc import Sequence

from epalm.model.engine.language_model import load_config, load_tokenizer
from epalm.model.engine.length_check import check_lengths, check_prompt_lengths, excerpt
from epalm.model.engine.model_batch import add_separator, prompt_ids
from epalm.model.generation.batched_generation import generation_limit
from epalm.model.method.model_settings import ModelSettings
from epalm.tasks.types import Example
from epalm.train.config.recipe import Recipe
from epalm.train.data.tokenized_texts import TokenizedTexts
from epalm.train.options.train_config import DataConfig


def encode_texts(
    data: DataConfig,
    recipe: Recipe,
    settings: ModelSettings,
    train: Sequence[Example],
    val: Sequence[Example],
) -> TokenizedTexts:
    """Tokenize the training texts; no weights are read.

    Args:
        data: task and folder, for messages.
        recipe: splits and decoding settings.
        settings: settings of the model.
        train: training examples.
        val: validation examples.

    Raises:
        ModelError: a training text, or a validation prompt with the longest answer, has more tokens
            than the language model has positions; names split and example.
    """
    config, task = load_config(settings.lm, settings.precision), data.task
    tokenizer, template = load_tokenizer(settings.lm), settings.text_template()
    add_separator(tokenizer, template, config.vocab_size)
    positions = config.max_position_embeddings
    texts = TokenizedTexts(tokenizer, template, train)
    prompts, answers = texts.longest()
    check_lengths(
        prompts,
        [tokens for tokens, _ in answers],
        [example.question_id for example in train],
        positions=positions,
        answer_label=lambda index: excerpt(answers[index][1]),
        source=_location(data, recipe.train_split or task.train_split),
    )
    val_prompts = prompt_ids(tokenizer, template, [example.prompt for example in val])
    check_prompt_lengths(
        [len(ids) for ids in val_prompts],
        [example.question_id for example in val],
        generation_limit(recipe.decoding()),
        positions=positions,
        source=_location(data, recipe.val_split or task.val_split),
    )
    return texts


def _location(data: DataConfig, split: str) -> str:
    return f"{split} of {data.task.name} in {data.root}: "
