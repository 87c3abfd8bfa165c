"""From the options of `epalm-train` to the three values that `train` takes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from epalm.cache.readers.joined.joined_stores import JoinedStores
from epalm.cache.storage.local_copies import use_local_cache
from epalm.cache.storage.open_storage import absolute_location
from epalm.devices import pick_device
from epalm.plugins import TypedName
from epalm.train.config.config_io import Change, parse_changes
from epalm.train.config.recipe import data_amount_changes, default_recipe, load_recipe
from epalm.train.config.recipe_ranges import check_options
from epalm.train.options.command_options import TrainOptions
from epalm.train.options.preflight_checks import check_best_by, check_names, check_text_states
from epalm.train.options.task_choice import choose_task
from epalm.train.parallel.launcher_check import check_launcher, check_several_processes
from epalm.train.run_files.run_folder import default_name
from epalm.train.run_files.trackers.tracker_package import check_tracker

if TYPE_CHECKING:
    from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig


def resolve_options(
    options: TrainOptions, features: Sequence[str]
) -> "tuple[DataConfig, ModelConfig, RuntimeConfig]":
    """Look up everything that options name, and check it, before torch is imported.

    Args:
        options: values from the command line.
        features: path or URL of each store.

    Raises:
        EpalmError: an option, the store, the task or the recipe cannot be used.
    """
    check_launcher(os.environ)
    check_options(seed=options.seed, limit=options.limit)
    check_tracker(options.track)
    use_local_cache(options.local_cache, options.local_cache_size)
    stores = JoinedStores.open(features, common=options.common, concatenate=options.concatenate)
    spec = stores.spec
    task, root = choose_task(TypedName(options.task), spec, options.data_root)
    recipe_name = options.recipe or default_recipe(task.name)
    recipe = load_recipe(recipe_name, recipe_changes(options))
    name = options.name or default_name(
        task.name, spec, recipe.lm, recipe.variant, blind=options.blind
    )
    check_names(recipe, task, stores.specs, device=options.device, run=Path(name).name)
    check_best_by(recipe, blind=options.blind)
    if options.text_states:
        check_text_states(recipe)
    if options.shard_weights:
        check_several_processes(os.environ)

    # torch and transformers take seconds to import: every mistake that can be found without them
    # has been found above.
    from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
    from epalm.train.parallel.distributed import own_group

    group = own_group()
    return (
        DataConfig(
            absolute_location(features[0]),
            task,
            root,
            options.limit,
            options.blind,
            joined=tuple(map(absolute_location, features[1:])),
            common=options.common,
            concatenate=options.concatenate,
        ),
        ModelConfig(recipe, recipe_name, options.seed),
        RuntimeConfig(
            folder=options.out / name,
            fresh=options.fresh,
            device=group.device(pick_device(options.device)),
            reader=options.reader,
            text_states=options.text_states,
            group=group,
            shard_weights=options.shard_weights,
            track=options.track,
            quiet=options.quiet,
        ),
    )


def recipe_changes(options: TrainOptions) -> list[Change]:
    """The recipe keys that the command line changes: those of --set first, then the other options.

    Raises:
        RecipeError: a text after --set is no change, or options exclude each other.
    """
    named = {
        "lm": absolute_folder(options.lm),
        "lm_precision": options.precision,
        "variant": options.variant,
        "source_layers": options.source_layers,
        "inject": options.inject,
        "train_split": options.train_split,
        "val_split": options.val_split,
    }
    return [
        *parse_changes(options.changes or ()),
        *((key, value) for key, value in named.items() if value),
        *data_amount_changes(options.train_examples, options.train_fraction),
    ]


def absolute_folder(lm: str) -> str:
    """The absolute path of a language model's folder; a hub id as it is."""
    return str(Path(lm).absolute()) if lm and Path(lm).is_dir() else lm
