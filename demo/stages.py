"""The three stages on drawn scenes, by the same functions as the three commands."""

from dataclasses import dataclass
from pathlib import Path

from epalm.cache.create import create_store
from epalm.cache.store import Store
from epalm.demo.dataset import Sizes, write_dataset
from epalm.demo.encoder import WEIGHTS
from epalm.evaluate.records import Evaluation
from epalm.evaluate.report import ReportData, write_report
from epalm.evaluate.session import METRICS_FILE, REPORT_FILE, evaluate
from epalm.evaluate.session import Request as EvalRequest
from epalm.extract.plan import Settings, make_plan
from epalm.extract.run import extract
from epalm.tasks.manifest import TASK, media
from epalm.tasks.registry import load_task
from epalm.train.recipe import load_recipe
from epalm.train.request import Request as TrainRequest
from epalm.train.session import train

ENCODER = "epalm.demo.encoder:micro_vit"

LANGUAGE_MODEL = WEIGHTS / "opt-micro"

RECIPE = Path(__file__).parent / "recipes" / "scenes.toml"

SPLIT = "test"

LEAD = (
    "Micro models that come with the package: both were trained by us, each on its own modality "
    "alone, on drawn scenes and on texts about such scenes. The scores show that the method works; "
    "they say nothing about photographs."
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """One training run of the demo.

    Attributes:
        name: of its run folder.
        variant: what is trained.
        blind: train and test on the features of other photos of the same split.
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
    """Where the demo's files lie.

    Attributes:
        out: folder of everything.
        seed: of scenes and training.
        quiet: show no progress.
    """

    out: Path
    seed: int = 0
    quiet: bool = False

    @property
    def scenes(self) -> Path:
        """The manifest's folder."""
        return self.out / "scenes"

    @property
    def store(self) -> Path:
        """The feature store."""
        return self.out / "cache" / "scenes_microvit.zarr"

    @property
    def page(self) -> Path:
        """The HTML page that compares the runs."""
        return self.out / REPORT_FILE

    def run(self, contestant: Contestant) -> Path:
        """The folder of a training run."""
        return self.out / "runs" / contestant.name


def draw_scenes(place: Place, sizes: Sizes) -> int:
    """Write the photos and the manifest; the number of questions."""
    return write_dataset(place.scenes, sizes, seed=place.seed)


def extract_features(place: Place) -> int:
    """Stage one: encode every photo once; the number of photos in the store."""
    settings = Settings(
        encoder=ENCODER,
        dataset=str(place.scenes),
        out=place.store,
        device="cpu",
        workers=0,
        quiet=place.quiet,
    )
    plan = make_plan(settings)
    stale = Store.at(plan.out)
    if stale.exists():
        stale.delete()
    store = create_store(plan.out, plan.spec, plan.keys)
    return extract(plan.encoder, plan.items, store, pace=plan.pace).records


def train_run(place: Place, contestant: Contestant) -> float:
    """Stage two: train connectors, and the prompt if there is one, from stored features.

    Returns:
        Trained parameters as a share of these and the language model's.
    """
    recipe = load_recipe(
        str(RECIPE), [f"lm={str(LANGUAGE_MODEL)!r}", f"variant={contestant.variant!r}"]
    )
    record = train(
        TrainRequest(
            folder=place.run(contestant),
            task=load_task(TASK, place.scenes),
            data_root=place.scenes,
            features=str(place.store),
            recipe=recipe,
            recipe_name="scenes",
            seed=place.seed,
            blind=contestant.blind,
            fresh=True,
            quiet=place.quiet,
        )
    )
    return record.trained / (record.trained + record.frozen)


def evaluate_run(place: Place, contestant: Contestant) -> Evaluation:
    """Stage three: answer the test questions and score the answers."""
    request = EvalRequest(place.run(contestant), SPLIT, batch_size=256, quiet=place.quiet)
    return evaluate(request).evaluation


def write_page(place: Place, evaluations: tuple[Evaluation, ...]) -> None:
    """One HTML page about all runs."""
    write_report(
        place.page,
        ReportData(
            title="Drawn scenes, micro models",
            lead=LEAD,
            evaluations=evaluations,
            media={item.key: item for item in media(place.scenes).items},
            metrics_files=tuple(place.run(contestant) / METRICS_FILE for contestant in CONTESTANTS),
        ),
    )
