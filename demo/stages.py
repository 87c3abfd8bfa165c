"""The three stages of the demo, run with the same functions as the three commands."""

from dataclasses import dataclass
from pathlib import Path

from epalm.cache.create_store import create_store, delete_store
from epalm.cache.records.extraction_log import delete_extraction_log
from epalm.cache.store import Store
from epalm.demo.demo_dataset import write_dataset
from epalm.demo.encoder import WEIGHTS
from epalm.demo.modalities import DemoModality
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.report.report_files import REPORT_FILE, ReportColumn, write_comparison
from epalm.evaluate.run_evaluation import evaluate
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.extract.planning.extract_inputs import read_inputs
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.extraction_plan import make_plan
from epalm.extract.reports.run_log import note_report
from epalm.extract.run_extraction import extract
from epalm.tasks.task_registry import TASKS, load_task
from epalm.train.config.recipe import load_recipe
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.run_training import train

LANGUAGE_MODEL = WEIGHTS / "opt-micro"
"""Folder of the frozen language model."""

TEST_SPLIT = "test"

REPORT_INTRODUCTION = (
    "All models come with the package and are very small. We trained the encoder on data of this "
    "kind without any text, and the language model on text only. The scores show that the method "
    "works; they say nothing about real images, videos and audio clips."
)


@dataclass(frozen=True, slots=True)
class DemoRun:
    """One training run of the demo.

    Attributes:
        name: name of the run folder.
        variant: method variant.
        blind: train and test on the features of other samples of the same split.
    """

    name: str
    variant: str
    blind: bool = False


RUNS = (
    DemoRun("blind", "full", blind=True),
    DemoRun("lin", "lin"),
    DemoRun("full", "full"),
)
"""The runs that the demo compares, for every modality."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The output files of one modality.

    Attributes:
        modality: the modality.
        out: output folder of the whole demo.
        seed: random seed of data and training.
        quiet: show no progress.
    """

    modality: DemoModality
    out: Path
    seed: int = 0
    quiet: bool = False

    @property
    def root(self) -> Path:
        """Folder of all files of this modality."""
        return self.out / self.modality.name

    @property
    def data(self) -> Path:
        """Folder of the generated data and its manifest."""
        return self.root / "data"

    @property
    def store(self) -> Path:
        """Path of the feature store."""
        return self.root / "cache" / f"{self.modality.name}.zarr"

    @property
    def report(self) -> Path:
        """Path of the HTML report that compares the runs."""
        return self.root / REPORT_FILE

    def run(self, run: DemoRun) -> Path:
        """Folder of a training run."""
        return self.root / "runs" / run.name


def write_data(folder: DemoFolder) -> int:
    """Generate the samples and write them with their manifest; the number of examples."""
    modality = folder.modality
    return write_dataset(folder.data, modality.sizes, modality.write, seed=folder.seed)


def extract_features(folder: DemoFolder) -> int:
    """Stage one: encode every sample once; the number of samples in the store."""
    options = ExtractOptions(
        encoder=folder.modality.encoder,
        dataset=str(folder.data),
        out=str(folder.store),
        precision="fp32",  # as in the recipes
        device="cpu",
        workers=0,
        quiet=folder.quiet,
    )
    plan = make_plan(read_inputs(options))
    old_store = Store.at(plan.out)
    if old_store.exists():
        delete_store(old_store)
        delete_extraction_log(plan.out)
    store = create_store(plan.out, plan.spec, plan.keys)
    report = extract(plan.encoder, plan.items, store, options=plan.run_options, root=plan.root)
    note_report(report, plan, options.device)
    return report.records


def train_run(folder: DemoFolder, run: DemoRun) -> float:
    """Stage two: train the adapter on the cached features.

    Returns:
        Trainable parameters as a fraction of those of the language model and the adapter together.
    """
    modality = folder.modality
    changes = {
        "lm": str(LANGUAGE_MODEL),
        "encoder": str(modality.encoder),
        "variant": run.variant,
    }
    recipe = load_recipe(str(modality.recipe), list(changes.items()))
    record = train(
        DataConfig(
            str(folder.store),
            load_task(modality.task, folder.data),
            folder.data,
            blind=run.blind,
        ),
        ModelConfig(recipe, modality.recipe.stem, folder.seed),
        RuntimeConfig(folder.run(run), fresh=True, quiet=folder.quiet),
    )
    return record.trained / (record.trained + record.frozen)


def evaluate_run(folder: DemoFolder, run: DemoRun) -> Evaluation:
    """Stage three: generate answers for the test split and score them."""
    task = folder.modality.task
    options = EvalOptions(
        run=str(folder.run(run)),
        task="" if task in TASKS else task,  # run.json may not name code
        split=TEST_SPLIT,
        data_root=folder.data,
        batch_size=256,
        device="cpu",
        quiet=folder.quiet,
    )
    return evaluate(options).evaluation


def write_report(folder: DemoFolder, evaluations: tuple[Evaluation, ...]) -> None:
    """Write the HTML report that compares all runs."""
    run_folders = map(folder.run, RUNS)
    columns = [
        ReportColumn(run_folder, evaluation)
        for run_folder, evaluation in zip(run_folders, evaluations, strict=True)
    ]
    write_comparison(folder.report, columns, title=folder.modality.title, lead=REPORT_INTRODUCTION)
