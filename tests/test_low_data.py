"""Parts of a data set for the low-data curve."""

from pathlib import Path

from bench.low_data import part_of
from epalm.tasks.records import Example, Task

EXAMPLES = [Example("a.jpg", str(number), "why?", ("so",), ("so",)) for number in range(200)]


def drawn(fraction: float, *, split: str = "train", seed: int = 0) -> list[str]:
    task = Task("quiz", "qa", "exact", ("train", "val"), lambda *_: EXAMPLES)
    part = part_of(task, fraction, drawn=450, seed=seed)
    return [one.question_id for one in part.examples(split, Path())]


def test_parts_are_nested_and_seen_equally_often() -> None:
    parts = {fraction: drawn(fraction) for fraction in (0.01, 0.1, 1.0)}
    assert {len(part) for part in parts.values()} == {450}
    assert [len(set(part)) for part in parts.values()] == [2, 20, 200]
    assert set(parts[0.01]) < set(parts[0.1]) < set(parts[1.0])
    assert {parts[0.1].count(one) for one in parts[0.1]} == {22, 23}


def test_another_seed_draws_another_part_and_validation_stays_whole() -> None:
    assert set(drawn(0.1)) != set(drawn(0.1, seed=1))
    assert drawn(0.1, split="val") == [one.question_id for one in EXAMPLES]
