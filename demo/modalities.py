"""The demo's data, encoder, task and recipe for each modality."""

from dataclasses import dataclass
from pathlib import Path

from epalm.demo import descriptions
from epalm.demo.demo_dataset import SampleWriter, SplitSizes, write_clip, write_scene, write_sound
from epalm.plugins import TypedName
from epalm.tasks import manifest

RECIPES = Path(__file__).parent / "recipes"
"""Folder of the demo's recipes."""


@dataclass(frozen=True)
class DemoModality:
    """The demo of one modality.

    Attributes:
        name: name on the command line and of the output folder.
        title: title of the report.
        samples: plural noun for what is encoded.
        examples: plural noun for what the model answers.
        sizes: number of samples per split.
        write: generates one sample and writes it to disk.
        encoder: name of the frozen encoder.
        task: name of the task.
        recipe: recipe of all runs.
        scores: scores in the table, the headline first.
    """

    name: str
    title: str
    samples: str
    examples: str
    sizes: SplitSizes
    write: SampleWriter
    encoder: str
    task: str
    recipe: Path
    scores: tuple[str, ...]


MODALITIES: dict[str, DemoModality] = {
    modality.name: modality
    for modality in (
        DemoModality(
            name="image",
            title="Demo: generated images",
            samples="images",
            examples="questions",
            sizes=SplitSizes(train=1400, val=50, test=300),
            write=write_scene,
            encoder=TypedName("epalm.demo.encoder:micro_vit"),
            task=manifest.TASK,
            recipe=RECIPES / "scenes.toml",
            scores=("exact_match",),
        ),
        DemoModality(
            name="video",
            title="Demo: generated videos",
            samples="videos",
            examples="questions",
            sizes=SplitSizes(train=1000, val=50, test=300),
            write=write_clip,
            encoder=TypedName("epalm.demo.encoder:micro_timesformer"),
            task=manifest.TASK,
            recipe=RECIPES / "questions.toml",
            scores=("exact_match",),
        ),
        DemoModality(
            name="audio",
            title="Demo: synthetic audio clips",
            samples="audio clips",
            examples="captions",
            sizes=SplitSizes(train=1000, val=50, test=300),
            write=write_sound,
            encoder=TypedName("epalm.demo.encoder:micro_ast"),
            task=TypedName(descriptions.NAME),
            recipe=RECIPES / "captions.toml",
            scores=("facts_told", "CIDEr"),
        ),
    )
}
"""Name -> the demo of this modality."""
