"""Reference pages of recipes, of the files of runs and stores, and of errors."""

from collections.abc import Iterator
from dataclasses import fields

from epalm import errors
from epalm.cache.spec import StoreSpec
from epalm.evaluate.report.report_files import REPORT_FILE
from epalm.evaluate.scores import eval_results
from epalm.hub.card.model_card import CARD_FILE, CONFIG_FILE
from epalm.model.checkpoints import run_record
from epalm.model.checkpoints.soup_record import SOUP_FILE
from epalm.model.method.resampler_shape import ResamplerShape
from epalm.model.method.variants import VARIANTS, Variant
from epalm.train.config.recipe import Recipe, Schedule
from epalm.train.config.recipe_file import RECIPE_FOLDER, known_recipes
from epalm.train.run_files import run_folder, run_lock, training_checkpoint
from epalm.train.run_files.trackers import tracking
from tools.site.markdown import cell, code, described_attributes, fields_table, table

RUN_FILES = {
    run_record.RECIPE_FILE: "every setting of the training, a complete recipe",
    run_record.RECORD_FILE: "what is needed to rebuild the model, see below",
    run_folder.VERSIONS_FILE: "versions of epalm, torch, transformers, numpy and zarr",
    run_record.METRICS_FILE: "one line per logged step and per validation",
    run_record.ADAPTER_FILE: "the trained tensors of the best epoch, with a checksum",
    training_checkpoint.LAST_FILE: "the trained tensors of the last checkpoint",
    training_checkpoint.STATE_FILE: "what resuming needs: tensors, optimizer, position in the data",
    tracking.ID_FILE: "ids of the run at trackers, with `--track`",
    SOUP_FILE: "the averaged runs and their weights, of `epalm-train soup`",
    CARD_FILE: "model card; text of your own after the generated part is kept",
    CONFIG_FILE: "a part of run.json, by which the hub counts downloads",
    run_lock.LOCK_FILE: "held by the process that trains in the folder",
    f"eval/SPLIT/{eval_results.PREDICTIONS_FILE}": "one answer per line, with its scores",
    f"eval/SPLIT/{eval_results.SCORES_FILE}": "scores with 95 % intervals, settings, memory, time",
    f"eval/SPLIT/{eval_results.UNSCORED_FILE}": "in its place for a split without public answers",
    f"eval/SPLIT/{REPORT_FILE}": "the report: one file, without anything from the network",
    "eval/SPLIT/report-NAME.png": "each chart of the report as an image of its own",
}
"""File of a run folder -> what it is for."""

RECIPES = """\
# Recipe keys

After reading this page you know every key of a recipe, its type and its default. `--set key=value`
of `epalm-train` changes one; keys of a table are written with a dot, e.g.
`--set schedule.min_lr=1e-5`.
[Training](../how_to/training.md) says when to change which.

"""

ADAPTERS = """\
# Adapters

After reading this page you know what each variant of the adapter trains and which features it uses.
[Which adapter to choose](../explanation/what_works.md) compares them,
[training](../how_to/training.md#variants) has their numbers of parameters, and
[results](../explanation/results.md) what they score.

An adapter is the file `adapter.safetensors` of a run folder: some megabytes, without the language
model. It can be [published](../how_to/sharing.md), and several of them answer on one loaded
language model ([use a trained run](../tutorials/using.md)).

## Properties of a variant

"""

FILES = """\
# Files

After reading this page you know the files of a run folder, the fields of `run.json`, and those of a
store's `spec.json`. The arrays of a store are described in [format](format.md).

## A run folder

"""

ERRORS = """\
# Errors and exit codes

After reading this page you can tell from an exit code, or from `type` in the
[JSON output](json.md), what kind of error ended a command.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | an error; the message says what was found, what was expected and how to fix it |
| 2 | a wrong name, option or recipe |
| 3 | done, but some of the work is missing or failed: samples, shards |
| 4 | the store was made with other settings than requested |
| 75 | stopped by a signal; run the same command again: extraction, training and transfers resume |

Every error that a user can cause or fix is a class of `epalm.errors`:

"""


def settings_pages() -> dict[str, str]:
    """Address of each page -> its Markdown."""
    return {
        "reference/adapters.md": ADAPTERS + "".join(_adapter_parts()),
        "reference/recipe.md": RECIPES + "".join(_recipe_parts()),
        "reference/files.md": FILES + "".join(_file_parts()),
        "reference/errors.md": ERRORS + _error_table(),
    }


def _recipe_parts() -> Iterator[str]:
    yield "## Keys\n\n" + fields_table(Recipe) + "\n"
    yield "## The table `schedule`\n\n" + fields_table(Schedule) + "\n"
    yield "## The table `resampler`\n\n" + fields_table(ResamplerShape) + "\n"
    yield "## Packaged recipes\n\n"
    for name in known_recipes():
        text = (RECIPE_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        yield f"### {name}\n\n```toml\n{text}```\n\n"


def _adapter_parts() -> Iterator[str]:
    rows = ((code(name), cell(text)) for name, text in described_attributes(Variant).items())
    yield table(("property", "meaning"), rows) + "\n## All variants\n\n"
    for name, variant in VARIANTS.items():
        differing = (one for one in fields(variant) if getattr(variant, one.name) != one.default)
        settings = (f"`{one.name}` {_plain(getattr(variant, one.name))}" for one in differing)
        yield f"- `{name}`: {', '.join(settings)}\n"


def _plain(value: object) -> str:
    return "yes" if value is True else str(value)


def _file_parts() -> Iterator[str]:
    rows = ((code(name), text) for name, text in RUN_FILES.items())
    yield table(("file", "content"), rows) + "\n"
    yield f"## Fields of `{run_record.RECORD_FILE}`\n\n" + fields_table(run_record.RunRecord)
    yield f"\n## Fields of `{eval_results.SCORES_FILE}`\n\n"
    yield fields_table(eval_results.Evaluation, but="predictions")
    yield f"\n## Lines of `{eval_results.PREDICTIONS_FILE}`\n\n"
    yield fields_table(eval_results.PredictionRecord)
    yield "\n## Fields of a store's `spec.json`\n\n" + fields_table(StoreSpec)


def _error_table() -> str:
    classes = [one for one in vars(errors).values() if _is_error(one)]
    rows = (
        (code(one.__name__), code(one.__bases__[0].__name__), str(one.exit_code), cell(one.__doc__))
        for one in classes
    )
    return table(("class", "is a", "exit code", "meaning"), rows)


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, errors.EpalmError)
