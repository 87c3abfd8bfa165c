"""The text of a model card."""

import math
from collections.abc import Iterator
from pathlib import Path

from epalm.console import duration
from epalm.hub.card.base_models import encoder_id, language_model_id, license_of, store_field
from epalm.hub.card.card_metadata import MANIFEST, percent
from epalm.hub.card.card_scores import (
    CardScore,
    ShownEvaluation,
    shown_evaluations,
    training_summary,
)
from epalm.hub.card.markdown import code, plain, table
from epalm.hub.card.modality import EXAMPLE_FILES, EXAMPLE_QUESTIONS, modality
from epalm.model.checkpoints.run_record import RECIPE_ROWS, RunRecord, read_recipe
from epalm.model.checkpoints.soup_record import seed_words
from epalm.model.checkpoints.validation_figures import IN_NATS
from epalm.model.method.variants import find_variant
from epalm.portable_path import PACKAGE

HUB = "https://huggingface.co"

NO_SCORES = "This run has not been evaluated yet; `epalm-eval` adds its scores here."


def card_text(run: Path, record: RunRecord, *, source: str) -> str:
    """The generated part of the card.

    Args:
        run: folder of the run.
        record: record of the run.
        source: argument of `epalm.load` in the example.

    Raises:
        MalformedFileError: a scores.json, metrics.jsonl or recipe.toml is damaged.
    """
    evaluations = shown_evaluations(run)
    sections = [
        f"# {plain(record.name)}",
        _lead(record),
        f"## Use it\n\n{_example(record, source)}",
        f"## Scores\n\n{_scores(evaluations) if evaluations else NO_SCORES}",
        f"## Training\n\n{table(('', ''), _training(run, record))}",
        f"## License\n\n{_license(record)}",
        "## Files\n\n`adapter.safetensors` has the trained tensors, `recipe.toml` every setting, "
        "`run.json` what epalm builds the model from, `eval` the predictions and scores.",
    ]
    return "\n\n".join(sections) + "\n"


def _lead(record: RunRecord) -> str:
    texts = "answers to questions about" if record.model.answers_questions else "captions of"
    noun = {"image": "images", "video": "videos", "audio": "audio clips"}[modality(record)]
    state = find_variant(record.model.variant).language_model
    lead = (
        f"An adapter that lets the {state} language model {_language_model(record)} write "
        f"{texts} {noun}. It injects features "
        f"of the frozen encoder {_encoder(record)} and has {record.trained:,} trained parameters."
    )
    if record.blind:
        lead += (
            "\n\n**This is a blind control**: it was trained on the features of other samples, to "
            "show what can be scored without seeing them."
        )
    return lead


def _linked(identifier: str) -> str:
    return f"[{plain(identifier)}]({HUB}/{identifier})"


def _language_model(record: RunRecord) -> str:
    identifier = language_model_id(record)
    return _linked(identifier) if identifier else code(Path(record.model.lm).name)


def _encoder(record: RunRecord) -> str:
    identifier = encoder_id(record)
    return _linked(identifier) if identifier else code(store_field(record, "encoder"))


def _example(record: RunRecord, source: str) -> str:
    kind = modality(record)
    file, question = EXAMPLE_FILES[kind], EXAMPLE_QUESTIONS[kind]
    call = f'model.caption("{file}")'
    if record.model.answers_questions:
        call = f'model.answer("{file}", "{question}")'
    lines = ["import epalm", f"model = epalm.load({_quoted(source)})", f"print({call})"]
    return "```bash\npip install epalm\n```\n\n```python\n" + "\n".join(lines) + "\n```"


def _quoted(text: str) -> str:
    """A text as a Python literal in double quotes, without backticks that would end the block."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("`", "'")
    return '"' + " ".join(escaped.split()) + '"'


def _scores(evaluations: list[ShownEvaluation]) -> str:
    header = ("evaluation", "metric", "score", "95 % interval", "blind control")
    note = (
        "Scores are in percent. A blind control gets the features of other samples: what it "
        "scores needs no input but the text."
    )
    return table(header, _score_rows(evaluations)) + "\n\n" + note


def _score_rows(evaluations: list[ShownEvaluation]) -> Iterator[tuple[str, ...]]:
    for shown in evaluations:
        result = shown.result
        task = "" if result.task == MANIFEST else f"{result.task}, "
        blind = " (evaluated blind)" if result.blind else ""
        for name, score in result.scores.items():
            control = shown.control.scores.get(name) if shown.control else None
            metric = f"**{plain(name)}**" if name == result.headline else plain(name)
            label = f"{plain(task + result.dataset)}, {code(shown.name)}{blind}"
            value = f"{percent(score.value):.2f}"
            yield label, metric, value, _interval(score), _control(control)


def _interval(score: CardScore) -> str:
    if score.low is None or score.high is None:
        return ""
    return f"{percent(score.low):.2f} to {percent(score.high):.2f}"


def _control(control: CardScore | None) -> str:
    if control is None:
        return "not evaluated"
    interval = _interval(control)
    return f"{percent(control.value):.2f}" + (f" ({interval})" if interval else "")


def _training(run: Path, record: RunRecord) -> Iterator[tuple[str, str]]:
    share = record.trained / (record.trained + record.frozen)
    model, recipe = record.model, read_recipe(run)
    task = "" if record.task == MANIFEST else f", task {record.task}"
    yield "data", plain(store_field(record, "dataset") + task)
    yield "language model", f"{_language_model(record)}, {plain(model.precision)}"
    yield "encoder", f"{_encoder(record)}, blocks {plain(store_field(record, 'layers'))}"
    yield "variant", plain(model.variant)
    yield "trainable parameters", f"{record.trained:,} ({100 * share:.4f} % of LM + adapter)"
    yield "text", code(model.template)
    yield "recipe", code(record.recipe)
    for key, shown in RECIPE_ROWS.items():
        if key in recipe:
            yield shown, plain(recipe[key])
    yield "seed", plain(seed_words(run, record))
    summary = training_summary(run)
    if summary and math.isfinite(summary.score):
        in_nats = summary.metric in IN_NATS
        best = f"{summary.score:.4f}" if in_nats else f"{percent(summary.score):.2f}"
        unit = " nats per token" * in_nats
        yield (
            "best validation score",
            f"{best}{unit} ({plain(summary.metric)}, epoch {summary.epoch})",
        )
        if summary.seconds:
            yield "time", duration(summary.seconds)


def _license(record: RunRecord) -> str:
    identifier = language_model_id(record)
    known = license_of(identifier)
    rest = "The encoder and the training data have terms of their own."
    if known:
        name = f"[{known.name}]({known.link})" if known.link else known.id
        return f"The license of {_linked(identifier)} applies: {name}. {known.note} {rest}".replace(
            "  ", " "
        )
    if identifier:
        return f"The license of {_linked(identifier)} applies; its page on the hub names it. {rest}"
    lm = code(Path(record.model.lm).name)
    if Path(record.model.lm).is_relative_to(PACKAGE):
        return f"The language model {lm} comes with the package epalm (Apache-2.0). {rest}"
    return (
        f"The language model {lm} was a local folder (weights {record.lm_digest}), so its license "
        f"is not known here: whoever shares this adapter has to name it. {rest}"
    )
