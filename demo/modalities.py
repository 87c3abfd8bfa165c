"""What the demo shows of each modality: which media, encoder, task and recipe."""

from dataclasses import dataclass
from pathlib import Path

from epalm.demo import descriptions
from epalm.demo.demo_dataset import Sizes, Writer, write_clip, write_scene, write_sound
from epalm.plugins import TypedName
from epalm.tasks import manifest

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Show:
    """One modality's part of the demo.

    Attributes:
        name: of its folder, and on the command line.
        title: of its page.
        media: what is encoded, in the plural.
        examples: what is answered, in the plural.
        sizes: media per split.
        write: makes one medium.
        encoder: name of the frozen encoder.
        task: name of the task.
        recipe: of all its runs.
        scores: what the table shows, the headline first.
    """

    name: str
    title: str
    media: str
    examples: str
    sizes: Sizes
    write: Writer
    encoder: str
    task: str
    recipe: Path
    scores: tuple[str, ...]


SHOWS: dict[str, Show] = {
    show.name: show
    for show in (
        Show(
            name="image",
            title="Drawn scenes, micro models",
            media="photos",
            examples="questions",
            sizes=Sizes(train=1400, val=50, test=300),
            write=write_scene,
            encoder=TypedName("epalm.demo.encoder:micro_vit"),
            task=manifest.TASK,
            recipe=RECIPES / "scenes.toml",
            scores=("exact_match",),
        ),
        Show(
            name="video",
            title="Drawn clips, micro models",
            media="clips",
            examples="questions",
            sizes=Sizes(train=1000, val=50, test=300),
            write=write_clip,
            encoder=TypedName("epalm.demo.encoder:micro_timesformer"),
            task=manifest.TASK,
            recipe=RECIPES / "questions.toml",
            scores=("exact_match",),
        ),
        Show(
            name="audio",
            title="Synthesised recordings, micro models",
            media="recordings",
            examples="captions",
            sizes=Sizes(train=1000, val=50, test=300),
            write=write_sound,
            encoder=TypedName("epalm.demo.encoder:micro_ast"),
            task=descriptions.NAME,
            recipe=RECIPES / "captions.toml",
            scores=("facts_told", "CIDEr"),
        ),
    )
}
"""Name -> one modality's part."""
