"""The three stages on drawn media, by the same functions as the three commands."""

from dataclasses import dataclass
from pathlib import Path

from epalm.cache.create_store import create_store, delete_store
from epalm.cache.records.extraction_log import delete_extraction_log
from epalm.cache.store import Store
from epalm.demo.demo_dataset import write_dataset
from epalm.demo.encoder import WEIGHTS
from epalm.demo.modalities import Show
from epalm.evaluate.preparation.eval_preparation import EvalConfig as EvalRequest
from epalm.evaluate.report.report_files import REPORT_FILE, ReportColumn, write_comparison
from epalm.evaluate.run_evaluation import evaluate
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.extract.extraction_report import note_report
from epalm.extract.planning.extract_options import Settings, read_inputs
from epalm.extract.planning.extraction_plan import make_plan
from epalm.extract.run_extraction import extract
from epalm.tasks.task_registry import load_task
from epalm.train.config.recipe import load_recipe
from epalm.train.config.train_config import TrainConfig as TrainRequest
from epalm.train.run_training import train

LANGUAGE_MODEL = WEIGHTS / "opt-micro"

SPLIT = "test"

LEAD = (
    "Micro models that come with the package: we trained the encoder on such media without any "
    "text, and the language model on texts alone. The scores show that the method works; they say "
    "nothing about real photographs, clips and recordings."
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """One training run of the demo.

    Attributes:
        name: of its run folder.
        variant: what is trained.
        blind: train and test on the features of other media of the same split.
    """

    name: str
    variant: str
    blind: bool = False


CONTESTANTS = (
    Contestant("blind", "full", blind=True),
    Contestant("lin", "lin"),
    Contestant("full", "full"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of one modality lie.

    Attributes:
        show: the modality's part of the demo.
        out: folder of the whole demo.
        seed: of media and training.
        quiet: show no progress.
    """

    show: Show
    out: Path
    seed: int = 0
    quiet: bool = False

    @property
    def folder(self) -> Path:
        """All files of this modality."""
        return self.out / self.show.name

    @property
    def data(self) -> Path:
        """The manifest's folder."""
        return self.folder / "data"

    @property
    def store(self) -> Path:
        """The feature store."""
        return self.folder / "cache" / f"{self.show.name}.zarr"

    @property
    def page(self) -> Path:
        """The HTML page that compares the runs."""
        return self.folder / REPORT_FILE

    def run(self, contestant: Contestant) -> Path:
        """The folder of a training run."""
        return self.folder / "runs" / contestant.name


def draw_media(place: Place) -> int:
    """Write the media and the manifest; the number of its lines."""
    return write_dataset(place.data, place.show.sizes, place.show.write, seed=place.seed)


def extract_features(place: Place) -> int:
    """Stage one: encode every medium once; the number of media in the store."""
    settings = Settings(
        encoder=place.show.encoder,
        dataset=str(place.data),
        out=place.store,
        precision="fp32",  # as in the recipes
        device="cpu",
        workers=0,
        quiet=place.quiet,
    )
    plan = make_plan(read_inputs(settings))
    stale = Store.at(plan.out)
    if stale.exists():
        delete_store(stale)
        delete_extraction_log(plan.out)
    store = create_store(plan.out, plan.spec, plan.keys)
    report = extract(plan.encoder, plan.items, store, pace=plan.pace, root=plan.root)
    note_report(report, plan, settings.device)
    return report.records


def train_run(place: Place, contestant: Contestant) -> float:
    """Stage two: train connectors, and the prompt if there is one, from stored features.

    Returns:
        Trained parameters as a share of these and the language model's.
    """
    show = place.show
    changes = {
        "lm": str(LANGUAGE_MODEL),
        "encoder": str(show.encoder),
        "variant": contestant.variant,
    }
    recipe = load_recipe(str(show.recipe), [*changes.items()])
    record = train(
        TrainRequest(
            folder=place.run(contestant),
            task=load_task(show.task, place.data),
            data_root=place.data,
            features=str(place.store),
            recipe=recipe,
            recipe_name=show.recipe.stem,
            seed=place.seed,
            blind=contestant.blind,
            fresh=True,
            quiet=place.quiet,
        )
    )
    return record.trained / (record.trained + record.frozen)


def evaluate_run(place: Place, contestant: Contestant) -> Evaluation:
    """Stage three: answer the test split and score the answers."""
    request = EvalRequest(
        place.run(contestant),
        SPLIT,
        data_root=place.data,
        batch_size=256,
        quiet=place.quiet,
    )
    return evaluate(request).evaluation


def write_page(place: Place, evaluations: tuple[Evaluation, ...]) -> None:
    """One HTML page about all runs."""
    runs = map(place.run, CONTESTANTS)
    shown = [ReportColumn(run, found) for run, found in zip(runs, evaluations, strict=True)]
    write_comparison(place.page, shown, title=place.show.title, lead=LEAD)
