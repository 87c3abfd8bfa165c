"""Drawn media on disk as an ordinary manifest: a folder of files and one JSONL file per split."""

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from epalm.demo.worlds.audio_captions import captions
from epalm.demo.worlds.clip_questions import ask_all_about
from epalm.demo.worlds.clips import FRAME_MS, FRAMES, Clip, draw_indices, make_clip, palette
from epalm.demo.worlds.scene_questions import Question, ask_all
from epalm.demo.worlds.scenes import Scene, draw_scene, make_scene
from epalm.demo.worlds.sounds import RATE_HZ, make_sound, synthesise

ASKED = ("shape", "count", "neighbour", "presence", "total", "any")
"""Kinds of questions that the demo asks about still scenes. Of the others the micro language model
learnt in its texts no more than to guess (`weights/README.md`), and a frozen model cannot be
steered to what it cannot do. Shapes are such a kind by now too; they stay, for comparison."""

ASKED_OF_CLIPS = ("direction", "speed", "mover", "stayer", "trend", "blinks")
"""Likewise, about clips."""


@dataclass(frozen=True)
class Sizes:
    """Media per split."""

    train: int = 1400
    val: int = 50
    test: int = 300


@dataclass(frozen=True)
class Written:
    """A medium that was written to disk.

    Attributes:
        facts: equal for media that sound or look the same.
        lines: of the manifest, about this medium.
    """

    facts: Hashable
    lines: list[dict[str, Any]]


Writer = Callable[[str, Path, str], Written]
"""Makes the medium of a name and writes it below a folder, to a file whose path there begins with
the given stem."""


def write_dataset(folder: Path, sizes: Sizes, write: Writer, *, seed: int) -> int:
    """Make the media and write `train.jsonl`, `val.jsonl` and `test.jsonl` beside them.

    Args:
        folder: created; files of the same names are overwritten.
        sizes: media per split.
        write: makes one medium.
        seed: other seeds give other media.

    Returns:
        Number of lines over all splits.
    """
    (folder / "media").mkdir(parents=True, exist_ok=True)
    seen: set[Hashable] = set()
    count = 0
    for split, media in (("train", sizes.train), ("val", sizes.val), ("test", sizes.test)):
        lines: list[str] = []
        for number in range(media):
            written = write(medium_name(seed, split, number), folder, f"media/{split}-{number:05d}")
            assert written.facts not in seen, "two media are the same"
            seen.add(written.facts)
            lines += [json.dumps(line) for line in written.lines]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        count += len(lines)
    return count


def medium_name(seed: int, split: str, number: int) -> str:
    """The name of a medium of the demo; pretraining uses names that begin otherwise."""
    return f"demo-{seed}/{split}/{number}"


def without_name(scene: Scene) -> Scene:
    """The scene's facts alone: equal for equal pictures."""
    return replace(scene, name="")


def write_scene(name: str, folder: Path, stem: str) -> Written:
    """A picture as PNG, with one question of each kind in `ASKED`."""
    scene = make_scene(name)
    media = f"{stem}.png"
    draw_scene(scene).save(folder / media)
    asked = [question for question in ask_all(scene) if question.kind in ASKED]
    return Written(without_name(scene), [_question_line(media, one) for one in asked])


def write_clip(name: str, folder: Path, stem: str) -> Written:
    """A clip as GIF, with one question of each kind in `ASKED_OF_CLIPS`."""
    clip = make_clip(name)
    media = f"{stem}.gif"
    save_gif(clip, folder / media)
    asked = [question for question in ask_all_about(clip) if question.kind in ASKED_OF_CLIPS]
    return Written(replace(clip, name=""), [_question_line(media, one) for one in asked])


def save_gif(clip: Clip, path: Path) -> None:
    """Write every frame, with the clip's exact colours."""
    colours = [value for colour in palette(clip) for value in colour]
    frames = draw_indices(clip, tuple(range(FRAMES)))
    for frame in frames:
        frame.putpalette(colours)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)


def write_sound(name: str, folder: Path, stem: str) -> Written:
    """An audio clip as WAV to be described; references come from `audio_captions.captions`."""
    sound = make_sound(name)
    media = f"{stem}.wav"
    soundfile.write(folder / media, synthesise(sound), RATE_HZ, subtype="PCM_16")
    line = {"id": media, "media": media, "answers": captions(sound)}
    return Written(replace(sound, name=""), [line])


def _question_line(media: str, question: Question) -> dict[str, Any]:
    return {
        "id": f"{media}#{question.kind}",
        "media": media,
        "prompt": question.text,
        "answers": [question.answer],
        "question_type": question.kind,
    }
