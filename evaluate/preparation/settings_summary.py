"""Settings of a run and of its evaluation, in words for the report."""

from pathlib import Path

from epalm.cache.spec import TOKEN
from epalm.cache.token_policy import CLS, MAP, MEAN
from epalm.evaluate.preparation.display_names import file_name, model_name, preprocessing_words
from epalm.model.checkpoints.run_record import RECIPE_ROWS, RunRecord, read_recipe
from epalm.model.checkpoints.soup_record import seed_words
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant

SPANS = {
    "auto": "over the published layers",
    "input": "before the input",
    "upper": "over the published layers of the upper half",
}
"""Span of a variant in words."""


def readable_settings(
    record: RunRecord, folder: Path, *, decoding: str, evaluated_on: str, precision: str
) -> dict[str, str]:
    """Settings by name, in the order of the report.

    Args:
        record: record of the run.
        folder: folder of the run; its recipe.toml, if there is one, adds epochs, batch size and
            learning rate.
        decoding: how the questions were answered, in words.
        evaluated_on: data of the evaluation, as from `data_words`.
        precision: precision of the language model in the evaluation; it differs from that of
            training only where the device does not support that.

    Raises:
        MalformedFileError: recipe.toml is damaged.
    """
    model = record.model
    recipe = read_recipe(folder)
    share = 100 * record.trained / (record.trained + record.frozen)
    state = find_variant(model.variant).language_model
    computed = "" if precision == model.precision else f", evaluated in {precision}"
    return {
        "language model": f"{model_name(model.lm)}, {state}, {model.precision}{computed}",
        "language model parameters": f"{record.frozen:,}",
        "encoder": f"{model_name(record.store['encoder'])}, frozen",
        "preprocessing": preprocessing_words(record.store) or "not recorded",
        "trained parameters": f"{record.trained:,} ({share:.4f} % of language model and adapter)",
        "variant": model.variant,
        "soft prompt": _prompt(model),
        "injection": _injection(model, record.store.get(f"fingerprint.{TOKEN}", CLS)),
        "recipe": model_name(record.recipe),
        **{shown: str(recipe[key]) for key, shown in RECIPE_ROWS.items() if key in recipe},
        "text": _text(model),
        "supervised": model.supervise,
        "decoding": decoding,
        "trained blind": "yes" if record.blind else "no",
        "seed": seed_words(folder, record),
        "trained on": data_words(record.task, record.store["dataset"], record.features),
        "evaluated on": evaluated_on,
    }


def data_words(task: str, dataset: str, features: str, *, views: int = 1) -> str:
    """Dataset, task and name of the feature store in words, and the views that are averaged."""
    averaged = f", mean of {views} views" if views > 1 else ""
    return f"{dataset}, task {task}, features {file_name(features)}{averaged}"


def _text(model: ModelSettings) -> str:
    """The template, and where it differs from plain text with the tokenizer's own begin token."""
    chat = " in the chat template" if model.chat else ""
    begin = "" if model.begin_token == "auto" else f", begin token {model.begin_token}"
    return f"{model.template}{chat}{begin}"


def _prompt(model: ModelSettings) -> str:
    kind = find_variant(model.variant).prompt
    suffix = {"plain": "", "mlp": ", through an MLP", "deep": " at every layer"}
    return "none" if kind == "none" else f"{model.prompt_length} prompt tokens{suffix[kind]}"


def _injection(model: ModelSettings, policy: str) -> str:
    """The injected features and their layers.

    Args:
        model: settings of the model.
        policy: token policy of the store.
    """
    variant, count = find_variant(model.variant), model.injected_tokens
    token = {MEAN: "mean token", MAP: "attention-pooled token"}.get(policy, "[CLS] token")
    features = {
        "all": f"{token}s of {model.cached} blocks",
        "last": f"{token} of the last block",
        "tokens": f"all {model.positions} tokens of the last block",
    }
    if variant.connectors == "resampler":
        features["tokens"] = f"{model.resampler.queries} queries over {features['tokens']}"
    if count > 1:
        features["all"] = f"{count} tokens ({policy}) of each of {model.cached} blocks"
        features["last"] = f"{count} tokens ({policy}) of the last block"
    where = SPANS[variant.span] if model.inject == "auto" else f"at layers {model.inject}"
    step = "" if model.text_step == 1 else f", every {model.text_step} layers"
    return f"{features[variant.features]} {where}{step}, tail {model.tail}"
