"""`epalm-train import`: a checkpoint of the official implementation becomes a run."""

from epalm.console import configure_logging, say_json
from epalm.errors import MissingFileError
from epalm.plugins import TypedName
from epalm.train.options.command_options import ImportOptions

IMPORT_EXAMPLES = (
    "epalm-train import vqa.pth --features cache/coco_vitb16.zarr --lm opt-2.7b",
    "epalm-train import vqa.pth --features coco.zarr --lm opt --set inject=19:31",
)
"""Command lines that the help ends with."""


def import_official(options: ImportOptions) -> None:
    """Convert an official checkpoint into a run.

    Nothing in the file is executed. Settings come from --set, else from the configuration in the
    checkpoint, else from the published recipe.
    """
    configure_logging(quiet=options.quiet)
    if not options.checkpoint.is_file():
        raise MissingFileError(
            f"{options.checkpoint} is not there: name a checkpoint of the official implementation"
        )
    from epalm.cache.storage.open_storage import absolute_location
    from epalm.cache.store import Store
    from epalm.train.options.task_choice import choose_task

    spec = Store.open(options.features).spec
    task, root = choose_task(TypedName(options.task), spec, options.data_root)

    # and torch, which takes seconds
    from epalm.train.official.official_import import import_checkpoint
    from epalm.train.options.train_config import DataConfig
    from epalm.train.run_files.run_summary import run_summary

    data = DataConfig(absolute_location(options.features), task, root)
    record = import_checkpoint(options, data)
    if options.as_json:
        say_json(run_summary(options.out / record.name, record))
