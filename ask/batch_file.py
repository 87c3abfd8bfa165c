"""Answers to a file of questions: features are cached in a store, and answers are appended.

Both steps resume: the store holds what has been encoded, and the file of answers what has been
answered.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epalm.ask.ask_options import AskOptions
from epalm.atomic_write import named, write_file
from epalm.cache.readers.feature_source import NumpySource
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.store import Store
from epalm.console import progress
from epalm.devices import pick_device
from epalm.errors import MalformedFileError, UsageError
from epalm.evaluate.preparation.answer_method import describe
from epalm.evaluate.preparation.eval_target import check_run_store
from epalm.extract.fill_store import fill_store
from epalm.extract.planning.extract_inputs import read_inputs
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.method.model_settings import Decoding
from epalm.tasks.manifest import examples as manifest_examples
from epalm.tasks.types import Example, Kind
from epalm.untrusted.checked_json import read_json_lines

PRECISION = "fingerprint.precision"

PART = 256
"""Questions whose answers are written together; a stop loses at most these."""


@dataclass(frozen=True)
class BatchResult:
    """The result of answering a file.

    Attributes:
        out: file of the answers.
        answered: number of answers that this run has written.
        before: number of answers that were there.
        failed: number of questions without an answer, since their sample cannot be encoded.
    """

    out: Path
    answered: int
    before: int
    failed: int


def answer_file(
    options: AskOptions, questions: Path, folder: Path, decoding: Decoding
) -> BatchResult:
    """Answer every line of a manifest that is not answered yet.

    Args:
        options: the options of the command.
        questions: file of lines like those of a manifest, without answers.
        folder: folder of the run.
        decoding: decoding settings.

    Raises:
        DataError: the file of questions or that of answers is malformed.
        UsageError: the file of answers has answers of another run, or with other settings.
    """
    record = RunRecord.load(folder)
    kind: Kind = "qa" if record.model.answers_questions else "caption"
    examples = manifest_examples(kind, questions.stem, questions.absolute().parent)
    out = options.out or questions.with_suffix(".answers.jsonl")
    origin = {"run": record.name, "decoding": describe(decoding)}
    done = _answered(out, origin)
    left = [example for example in examples if example.question_id not in done]
    before = len(examples) - len(left)
    if not left:
        return BatchResult(out, 0, before, 0)
    store = _encode(options, record, questions)
    precision = {PRECISION: store.spec.comparable().get(PRECISION, "")}  # it may differ by device
    check_run_store(replace(record, store=record.store | precision), store.spec, store.location)
    failed = store.failed_samples()
    source = open_reader(store, keys=[example.key for example in left], views=1)
    with progress("answering", total=len(left), unit="questions", quiet=options.quiet) as tick:
        answered = 0
        for lines, count in _lines(options, folder, left, source, decoding, failed):
            _append(out, [origin | line for line in lines])
            answered += sum("answer" in line for line in lines)
            tick(count)
    return BatchResult(out, answered, before, len(left) - answered)


def _encode(options: AskOptions, record: RunRecord, questions: Path) -> Store:
    """Encode the samples of the questions into their store, as extraction does."""
    # These import torch, which takes seconds: mistakes in the files have been found without it.
    from epalm.ask.run_encoder import recorded_encoder, weights_location
    from epalm.extract.planning.recorded_options import recorded_options

    recorded = recorded_encoder(record)
    weights = weights_location(record, str(options.weights or ""))
    extraction = recorded_options(
        recorded, weights=weights, dtype=record.store.get("dtype", "float16")
    )
    extraction = replace(
        extraction,
        encoder=recorded.named(weights),
        precision=recorded.usable_precision(pick_device(options.device)),
        dataset=str(questions),
        out=options.features,
        device=options.device,
        allow_outside=options.allow_outside,
        quiet=options.quiet,
    )
    return fill_store(read_inputs(extraction)).store


def _lines(
    options: AskOptions,
    folder: Path,
    examples: Sequence[Example],
    source: NumpySource,
    decoding: Decoding,
    failed: Mapping[str, str],
) -> Iterator[tuple[list[dict[str, object]], int]]:
    """The lines of the next answers, and the number of their questions."""
    from epalm.ask.answers import as_fields
    from epalm.ask.feature_answers import answer_features
    from epalm.model.checkpoints.adapter_io import load_run

    run = load_run(folder, pick_device(options.device), lm=options.lm)
    for start in range(0, len(examples), PART):
        part = examples[start : start + PART]
        good = [example for example in part if example.key not in failed]
        keys = [example.key for example in good]
        answers = (
            answer_features(
                run,
                source.read(keys),
                [example.prompt for example in good],
                keys,
                decoding,
                top=options.top,
            )
            if good
            else []
        )
        by_id = {
            example.question_id: as_fields(answer)
            for example, answer in zip(good, answers, strict=True)
        }
        lines = [
            {"id": one.question_id, "media": one.key, "prompt": one.prompt}
            | by_id.get(one.question_id, {"error": failed.get(one.key, "")})
            for one in part
        ]
        yield lines, len(part)


def _answered(out: Path, origin: Mapping[str, str]) -> set[str]:
    """Ids of the questions that a file answers.

    Lines without an answer, and a last line that was cut off, are removed.

    Raises:
        UsageError: an answer is of another run, or with other decoding settings.
        MalformedFileError: a line is no answer.
    """
    if not out.exists():
        return set()
    content = out.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(out, content.rfind(b"\n") + 1)
    answers = {}
    for place, line in read_json_lines(out):
        if not isinstance(line, dict) or not isinstance(line.get("id"), str):
            raise MalformedFileError(f"{place} is no answer with an id: choose another --out")
        if differing := [name for name, value in origin.items() if line.get(name) != value]:
            name = differing[0]
            raise UsageError(
                f"{place} has {name} {line.get(name)!r}, this command {origin[name]!r}: choose "
                "another --out, or remove the file"
            )
        if "answer" in line:
            answers[line["id"]] = _as_line(line)
    write_file(out, "".join(answers.values()))
    return set(answers)


def _as_line(answer: Mapping[str, object]) -> str:
    return json.dumps(answer, ensure_ascii=False) + "\n"


def _append(out: Path, lines: Sequence[Mapping[str, object]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with named(out), out.open("ab") as file:
        for line in lines:
            file.write(_as_line(line).encode())
        file.flush()
        os.fsync(file.fileno())
