"""Evaluates two small runs with lmms-eval and with epalm-eval, and compares answers and scores.

    .venv-lmms/bin/python integrations/lmms_eval/check/compare.py --out lmms-check

Needs the environment of README.md, and no network. It ends with an error if a pair differs that has
to be equal, or one is equal that has to differ; else it writes scores.md and scores.json.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rules import check_rules
from runs import Result, evaluate, lmms_eval, train_runs
from tiny_data import CHOICES, CHOICES_TASK, write_choices_task, write_data

CAPTION_SCORES = {
    "CIDEr": "CIDEr",
    "Bleu_4": "BLEU-4",
    "Bleu_1": "BLEU-1",
    "ROUGE_L": "ROUGE-L",
    "METEOR": "METEOR",
}
"""Name of lmms-eval, after the task's prefix -> our name."""

CAPTIONS = {
    "coco2014_cap_val": ("coco", "coco-caption", "val", "coco"),
    "nocaps_val": ("nocaps", "nocaps-caption", "val", "nocaps"),
    "flickr30k_test": ("flickr", "flickr30k-caption", "test", "flickr30k"),
}
"""Task of lmms-eval -> prefix of its scores, then our task, split and store."""

QUESTIONS = {
    "vqav2_val": ("vqa2", "standard_val", "coco", "normalised_accuracy"),
    "gqa": ("gqa", "testdev", "gqa", "exact_match"),
}
"""Task of lmms-eval -> our task, split and store, and our score by the same rule."""


@dataclass(frozen=True)
class Pair:
    """A score of both programs.

    Attributes:
        task: task of lmms-eval, with the plugin's settings.
        theirs: name of lmms-eval's score.
        ours: name of epalm-eval's score.
        their_value: value of lmms-eval's score.
        our_value: value of epalm-eval's score.
        equal: whether the rules are the same.
    """

    task: str
    theirs: str
    ours: str
    their_value: float
    our_value: float
    equal: bool = True

    @property
    def holds(self) -> bool:
        """Whether the values are equal if the rules are, and differ otherwise."""
        return (abs(self.their_value - self.our_value) < 1e-9) == self.equal


def compare_captions(root: Path) -> list[Pair]:
    """Three captioning tasks: the request is ignored, and answers and metrics are the same."""
    theirs = lmms_eval(root, "captions", list(CAPTIONS), include=root / "tasks")
    pairs = []
    for name, (prefix, task, split, store) in CAPTIONS.items():
        ours = evaluate(root, "captions", task, split, store)
        check_answers(name, theirs[name], ours)
        pairs += [
            Pair(name, score, own, theirs[name].scores[f"{prefix}_{score}"], ours.scores[own])
            for score, own in CAPTION_SCORES.items()
        ]
    return pairs


def compare_questions(root: Path) -> list[Pair]:
    """Two tasks with and without lmms-eval's instruction after each question, and choices."""
    tasks = list(QUESTIONS)
    with_suffix = lmms_eval(root, "questions", tasks, "questions=task", include=root / "tasks")
    theirs = lmms_eval(
        root, "questions", [*tasks, CHOICES_TASK], "questions=plain", include=root / "tasks"
    )
    pairs = []
    for name, (task, split, store, same) in QUESTIONS.items():
        plain = evaluate(root, "questions", task, split, store)
        suffixed = evaluate(root, "questions", task, split, store, data="data-suffixed")
        check_answers(name, theirs[name], plain)
        check_answers(name, with_suffix[name], suffixed)
        value = theirs[name].scores["exact_match"]
        label = f"{name}, questions=plain"
        pairs.append(Pair(label, "exact_match", same, value, plain.scores[same]))
        if task == "vqa2":
            official = plain.scores["accuracy"]
            pairs.append(Pair(label, "exact_match", "accuracy", value, official, equal=False))
        value = with_suffix[name].scores["exact_match"]
        label = f"{name}, questions=task"
        pairs.append(Pair(label, "exact_match", same, value, suffixed.scores[same]))
        without = f"{same}, plain questions"
        pairs.append(Pair(label, "exact_match", without, value, plain.scores[same], equal=False))
    return [*pairs, compare_choices(root, theirs[CHOICES_TASK])]


def compare_choices(root: Path, theirs: Result) -> Pair:
    """The questions of GQA with a closed vocabulary, ranked by log-likelihood."""
    file = root / "choices.txt"
    file.write_text("\n".join(CHOICES) + "\n", encoding="utf-8")
    ours = evaluate(root, "questions", "gqa", "testdev", "gqa", answers=str(file))
    check_answers(CHOICES_TASK, theirs, ours)
    value = theirs.scores["acc"]
    return Pair(CHOICES_TASK, "acc", "exact_match", value, ours.scores["exact_match"])


def check_answers(name: str, theirs: Result, ours: Result) -> None:
    """Compare all answers to a task.

    Raises:
        SystemExit: an answer differs; names the task and the first one.
    """
    if len(theirs.answers) != len(ours.answers):
        raise SystemExit(f"{name}: {len(theirs.answers)} and {len(ours.answers)} answers")
    for row, (answer, own) in enumerate(zip(theirs.answers, ours.answers, strict=True)):
        if answer != own:
            raise SystemExit(f"{name}: answer {row} is {answer!r} and {own!r}")


def table(pairs: list[Pair]) -> str:
    """The pairs as a table in Markdown, scores x 100."""
    lines = [
        "| task of lmms-eval | its score | x 100 | epalm-eval | x 100 |",
        "|---|---|---|---|---|",
    ]
    for pair in pairs:
        sign = "" if pair.equal else " (differs)"
        theirs, ours = f"{100 * pair.their_value:.2f}", f"{100 * pair.our_value:.2f}"
        lines.append(f"| {pair.task} | {pair.theirs} | {theirs} | {pair.ours}{sign} | {ours} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make what is missing, evaluate, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("lmms-check"))
    root = parser.parse_args().out.absolute()
    if not (root / "data").is_dir():
        write_data(root)
    if not all((root / "runs" / name / "run.json").is_file() for name in ("questions", "captions")):
        train_runs(root)
    write_choices_task(root / "tasks")
    rules = check_rules()
    pairs = [*compare_captions(root), *compare_questions(root)]
    (root / "scores.md").write_text(table(pairs), encoding="utf-8")
    report = {"pairs": [asdict(pair) for pair in pairs], "rules": rules}
    (root / "scores.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    print(table(pairs))  # noqa: T201 - a script
    if wrong := [pair for pair in pairs if not pair.holds]:
        raise SystemExit(f"not as expected: {wrong}")


if __name__ == "__main__":
    main()
