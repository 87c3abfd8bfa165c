"""Scenes on disk as an ordinary manifest: a folder of photos and one JSONL file per split."""

import json
from dataclasses import dataclass
from pathlib import Path

from epalm.demo.questions import ask_all
from epalm.demo.scenes import Scene, draw_scene, make_scene

ASKED = ("shape", "count", "neighbour", "presence", "total", "any")
"""Kinds of questions the demo asks. Of the others the micro language model learnt in its texts no
more than to guess, and a frozen model cannot be steered to what it cannot do."""


@dataclass(frozen=True)
class Sizes:
    """Scenes per split; every scene carries one question of each kind in `ASKED`."""

    train: int = 1400
    val: int = 50
    test: int = 300


def write_dataset(folder: Path, sizes: Sizes, *, seed: int) -> int:
    """Draw the scenes and write `train.jsonl`, `val.jsonl` and `test.jsonl` beside them.

    Args:
        folder: created; files of the same names are overwritten.
        sizes: scenes per split.
        seed: other seeds give other scenes.

    Returns:
        Number of questions over all splits.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    seen: set[Scene] = set()
    questions = 0
    for split, count in (("train", sizes.train), ("val", sizes.val), ("test", sizes.test)):
        lines: list[str] = []
        for number in range(count):
            scene = make_scene(scene_name(seed, split, number))
            assert without_name(scene) not in seen, "two splits share a picture"
            seen.add(without_name(scene))
            lines += _write_scene(folder, scene, f"images/{split}-{number:05d}.png")
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        questions += len(lines)
    return questions


def scene_name(seed: int, split: str, number: int) -> str:
    """The name of a scene of the demo; pretraining uses names that begin otherwise."""
    return f"demo-{seed}/{split}/{number}"


def without_name(scene: Scene) -> Scene:
    """The scene's facts alone: equal for equal pictures."""
    return Scene("", scene.axis, scene.groups, scene.grey)


def _write_scene(folder: Path, scene: Scene, media: str) -> list[str]:
    draw_scene(scene).save(folder / media)
    return [
        json.dumps(
            {
                "id": f"{media}#{question.kind}",
                "media": media,
                "prompt": question.text,
                "answers": [question.answer],
                "question_type": question.kind,
            }
        )
        for question in ask_all(scene)
        if question.kind in ASKED
    ]
