"""A run's texts as token ids, once it is known that the language model has room for all."""

from collections.abc import Sequence

from epalm.model.engine.language_model import load_config, load_tokenizer
from epalm.model.engine.length_check import check_lengths, check_prompt_lengths, excerpt
from epalm.model.engine.model_batch import add_separator, prompt_ids
from epalm.model.generation.batched_generation import generation_limit
from epalm.model.method.model_settings import ModelSettings
from epalm.tasks.types import Example
from epalm.train.config.train_config import TrainConfig
from epalm.train.data.tokenized_texts import TokenizedTexts


def fitting_texts(
    request: TrainConfig,
    settings: ModelSettings,
    learnt: Sequence[Example],
    asked: Sequence[Example],
) -> TokenizedTexts:
    """The texts that are learnt; no weights are read.

    Args:
        request: what is to be trained.
        settings: of the model.
        learnt: examples to train on.
        asked: examples of validation.

    Raises:
        ModelError: a text of training, or a prompt of validation with the longest answer, has more
            tokens than the language model has positions; names split and example.
    """
    config, task = load_config(settings.lm, settings.precision), request.task
    tokenizer, template = load_tokenizer(settings.lm), settings.text_template()
    add_separator(tokenizer, template, config.vocab_size)
    positions = config.max_position_embeddings
    texts = TokenizedTexts(tokenizer, template, learnt)
    prompts, answers = texts.longest()
    check_lengths(
        prompts,
        [tokens for tokens, _ in answers],
        [one.question_id for one in learnt],
        positions=positions,
        answer_label=lambda place: excerpt(answers[place][1]),
        source=_place(request, request.recipe.train_split or task.train_split),
    )
    check_prompt_lengths(
        [len(ids) for ids in prompt_ids(tokenizer, template, [one.prompt for one in asked])],
        [one.question_id for one in asked],
        generation_limit(request.recipe.decoding()),
        positions=positions,
        source=_place(request, request.recipe.val_split or task.val_split),
    )
    return texts


def _place(request: TrainConfig, split: str) -> str:
    return f"{split} of {request.task.name} in {request.data_root}: "
