"""Generated samples on disk: a folder of media files and one JSONL manifest per split."""

import json
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from epalm.atomic_write import write_file
from epalm.demo.worlds.audio_captions import captions
from epalm.demo.worlds.clip_questions import all_clip_questions
from epalm.demo.worlds.clips import FRAME_MS, FRAMES, Clip, draw_indices, make_clip, palette
from epalm.demo.worlds.scene_questions import Question, all_scene_questions
from epalm.demo.worlds.scenes import Scene, draw_scene, make_scene
from epalm.demo.worlds.sounds import RATE_HZ, make_sound, synthesize

IMAGE_QUESTION_KINDS = ("shape", "count", "neighbour", "presence", "total", "any")
"""Kinds of questions in the image demo. The small language model cannot answer the other kinds even
from a text description (`weights/README.md`), and a frozen model cannot be adapted to do what it
cannot do. It cannot answer "shape" questions either; they are kept so that results stay
comparable."""

VIDEO_QUESTION_KINDS = ("direction", "speed", "mover", "stayer", "trend", "blinks")
"""Kinds of questions in the video demo; the language model cannot answer the others."""


@dataclass(frozen=True)
class SplitSizes:
    """Number of samples per split."""

    train: int = 1400
    val: int = 50
    test: int = 300


@dataclass(frozen=True)
class WrittenSample:
    """A sample that was written to disk.

    Attributes:
        facts: everything that is drawn at random; equal for samples that look or sound the same.
        lines: lines of the manifest about this sample.
    """

    facts: Hashable
    lines: list[dict[str, Any]]


SampleWriter = Callable[[str, Path, str], WrittenSample]
"""Generates the sample of a name and writes it to `folder / f"{stem}{suffix}"`; the arguments are
the name, the folder and the stem."""


def write_dataset(folder: Path, sizes: SplitSizes, write: SampleWriter, *, seed: int) -> int:
    """Generate the samples and write `train.jsonl`, `val.jsonl` and `test.jsonl` beside them.

    Args:
        folder: output folder; it is created, and files of the same names are overwritten.
        sizes: number of samples per split.
        write: generates and writes one sample.
        seed: random seed of the samples.

    Returns:
        Number of manifest lines in all splits together.
    """
    (folder / "media").mkdir(parents=True, exist_ok=True)
    seen: set[Hashable] = set()
    count = 0
    for split, samples in (("train", sizes.train), ("val", sizes.val), ("test", sizes.test)):
        lines: list[str] = []
        for number in range(samples):
            sample = write(sample_name(seed, split, number), folder, f"media/{split}-{number:05d}")
            assert sample.facts not in seen, "two samples are the same"
            seen.add(sample.facts)
            lines += [json.dumps(line) for line in sample.lines]
        write_file(folder / f"{split}.jsonl", "\n".join(lines) + "\n")
        count += len(lines)
    return count


def sample_name(seed: int, split: str, number: int) -> str:
    """Name of a sample of the demo; names in pretraining have other prefixes."""
    return f"demo-{seed}/{split}/{number}"


def without_name(scene: Scene) -> Scene:
    """The scene without its name; equal for equal images."""
    return replace(scene, name="")


def write_scene(name: str, folder: Path, stem: str) -> WrittenSample:
    """Write an image as PNG; the manifest has one question of each of `IMAGE_QUESTION_KINDS`."""
    scene = make_scene(name)
    path = f"{stem}.png"
    draw_scene(scene).save(folder / path)
    lines = _question_lines(path, all_scene_questions(scene), IMAGE_QUESTION_KINDS)
    return WrittenSample(without_name(scene), lines)


def write_clip(name: str, folder: Path, stem: str) -> WrittenSample:
    """Write a video as GIF; the manifest has one question of each of `VIDEO_QUESTION_KINDS`."""
    clip = make_clip(name)
    path = f"{stem}.gif"
    save_gif(clip, folder / path)
    lines = _question_lines(path, all_clip_questions(clip), VIDEO_QUESTION_KINDS)
    return WrittenSample(replace(clip, name=""), lines)


def save_gif(clip: Clip, path: Path) -> None:
    """Write every frame, with the exact colors of the clip."""
    rgb_values = [value for color in palette(clip) for value in color]
    frames = draw_indices(clip, tuple(range(FRAMES)))
    for frame in frames:
        frame.putpalette(rgb_values)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)


def write_sound(name: str, folder: Path, stem: str) -> WrittenSample:
    """Write an audio clip as WAV; the manifest has its reference captions."""
    sound = make_sound(name)
    path = f"{stem}.wav"
    soundfile.write(folder / path, synthesize(sound), RATE_HZ, subtype="PCM_16")
    line = {"id": path, "media": path, "answers": captions(sound)}
    return WrittenSample(replace(sound, name=""), [line])


def _question_lines(
    path: str, questions: Sequence[Question], kinds: Collection[str]
) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{path}#{question.kind}",
            "media": path,
            "prompt": question.text,
            "answers": [question.answer],
            "question_type": question.kind,
        }
        for question in questions
        if question.kind in kinds
    ]
