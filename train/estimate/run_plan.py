"""The plan of a run: its examples, reader and memory, without reading any weights."""

from dataclasses import dataclass

from epalm.cache.readers.reader_choice import ReaderChoice
from epalm.train.data.datasets import Selection, choose_source, select_data
from epalm.train.data.shared_parts import SharedParts
from epalm.train.data.text_encoding import encode_texts, resolve_text_settings
from epalm.train.estimate.memory_advice import MemoryInputs, memory_inputs
from epalm.train.options.checked_settings import check_settings, resolve_precision
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.parallel.weight_sharding import layer_sharder
from epalm.train.run_files.run_folder import earlier_run, recorded_order


@dataclass(frozen=True)
class RunPlan:
    """What a run reads and requires.

    Attributes:
        model: recipe with the precision of the language model.
        selection: examples of the run.
        choice: reader of the features.
        inputs: inputs of its memory plan.
    """

    model: ModelConfig
    selection: Selection
    choice: ReaderChoice
    inputs: MemoryInputs


def plan_run(
    data: DataConfig,
    model: ModelConfig,
    runtime: RuntimeConfig,
    shared: SharedParts | None = None,
) -> RunPlan:
    """Look at the stores, the examples, their texts and the device.

    Args:
        data: what to train on.
        model: what to train.
        runtime: where and how.
        shared: parts that earlier plans in this process have loaded; None for none.

    Raises:
        EpalmError: the run cannot be trained with these settings.
    """
    stores, earlier = earlier_run(runtime.folder, data.open_stores(), fresh=runtime.fresh)
    model = resolve_precision(model, runtime, earlier)
    recipe = model.recipe
    check_settings(recipe, runtime, stores.specs[0])
    if runtime.shard_weights:
        layer_sharder(runtime.group, runtime.device, recipe)
    order = recorded_order(earlier)
    selection = select_data(data, model, stores, resumed=order is not None, shared=shared)
    choice, _ = choose_source(runtime, selection.subset, recipe.batch_size, order)
    settings = resolve_text_settings(recipe.model_settings(data.task.kind, *stores.specs))
    texts = encode_texts(data, recipe, settings, selection.train, selection.val, shared=shared)
    inputs = memory_inputs(model, runtime, settings, texts, selection.train)
    resident = choice.reader == "gpu" or (choice.reader == "ram" and inputs.placing.cpu)
    stored = selection.subset.requirements(recipe.batch_size).nbytes if resident else 0
    return RunPlan(model, selection, choice, inputs.with_resident("stored features", stored))
