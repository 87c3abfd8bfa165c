"""`epalm-ask`: ask a trained run about new images, videos and audio clips."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from epalm.ask.ask_options import AskOptions
from epalm.ask.find_run import find_or_fetch_run
from epalm.console import configure_logging, counted, note, run_app, say, say_json, stoppable
from epalm.devices import check_device_name
from epalm.errors import INCOMPLETE, MissingFileError, UsageError
from epalm.evaluate.preparation.answer_method import given_decoding
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.method.model_settings import Decoding
from epalm.options import PanelCommand, command_from

if TYPE_CHECKING:
    from epalm.ask.file_answers import EncodedFiles, FileAnswer

EXAMPLES = (
    'epalm-ask runs/NAME kitchen.jpg "what is on the desk?"',
    'epalm-ask runs/NAME kitchen.jpg "how many cups?" --top 5',
    "epalm-ask runs/NAME --jsonl questions.jsonl",
)
"""Command lines that the help ends with."""


@dataclass(frozen=True)
class Request:
    """What to ask.

    Attributes:
        files: the samples.
        question: the question about each of them; None to read questions, "" for captions.
    """

    files: Sequence[str]
    question: str | None


def command(options: AskOptions) -> None:
    """Ask a trained run about images, videos or audio clips, and print the answers.

    The encoder and the language model are those of the run, found on the hub or where they were in
    training, and compared with what the run records.
    """
    configure_logging(quiet=True)
    folder = find_or_fetch_run(options.runs, options.run)
    check_device_name(options.device)
    record = RunRecord.load(folder)
    decoding = record.decoding.changed(given_decoding(options))
    if options.jsonl:
        _answer_lines(options, options.jsonl, folder, decoding)
        return
    request = read_request(record, options.words or [])

    from epalm.ask.file_answers import EncodedFiles  # and torch, which takes seconds
    from epalm.ask.run_model import load

    configure_logging(quiet=options.quiet)
    model = load(folder, lm=options.lm, weights=options.weights or "", device=options.device)
    encoded = EncodedFiles.encode(model, request.files)
    for file, reason in encoded.errors.items():
        note(f"{file}: {reason}")
    answers: list[FileAnswer] = []
    for question in _questions(request, encoded):
        asked = encoded.answers(model, question, decoding, top=options.top)
        answers += asked
        if not options.as_json:
            _print(asked, top=options.top)
    if options.as_json:
        say_json([as_json(answer) for answer in answers])
    if encoded.errors:
        raise typer.Exit(INCOMPLETE if encoded.keys else 1)


def _answer_lines(options: AskOptions, questions: Path, folder: Path, decoding: Decoding) -> None:
    """Answer the lines of a file, and print how many answers it has."""
    if options.words:
        raise UsageError("--jsonl has the samples and questions: leave out FILE and QUESTION")
    configure_logging(quiet=options.quiet)
    with stoppable():
        from epalm.ask.batch_file import answer_file

        result = answer_file(options, questions, folder, decoding)
    if options.as_json:
        say_json(asdict(result) | {"out": str(result.out)})
    else:
        answers = counted(result.answered, "answer")
        before = f", {result.before} were there" if result.before else ""
        say(f"{result.out}: {answers}{before}")
    if result.failed:
        count = counted(result.failed, "question")
        note(f"{count} without an answer, since the sample cannot be encoded; the file says why")
        raise typer.Exit(INCOMPLETE)


def read_request(record: RunRecord, words: Sequence[str]) -> Request:
    """The files, and the question after them, of a command line.

    Raises:
        UsageError: there is no file, or a question for a run that writes captions.
        MissingFileError: a file does not exist.
    """
    if not words:
        raise UsageError(f'give a file, e.g. epalm-ask {record.name} kitchen.jpg "what is it?"')
    asks = record.model.answers_questions
    files, last = list(words), words[-1]
    question: str | None = None if asks else ""
    if len(words) > 1 and not Path(last).is_file():
        if not asks:
            raise UsageError(
                f"{last!r} is no file, and run {record.name} writes captions: leave the question "
                "out, or correct the path"
            )
        files, question = files[:-1], last.strip()
        if not question:
            raise UsageError("the question is empty: give a text")
    for file in files:
        if not Path(file).is_file():
            kind = "is a URL: download the file first" if "://" in file else "no such file"
            raise MissingFileError(f"{file}: {kind}")
    return Request(files, question)


def _questions(request: Request, encoded: "EncodedFiles") -> Iterator[str]:
    """The question of the command line, or those that are typed, up to an empty line."""
    if not encoded.keys:
        return
    if request.question is not None:
        yield request.question
        return
    while True:
        if sys.stdin.isatty():
            note("question (an empty line ends):")
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def _print(answers: Sequence["FileAnswer"], *, top: int) -> None:
    """One line per file, with its name if there are several, and one per alternative."""
    for asked in answers:
        if asked.answer is None:
            continue
        name = f"{asked.file}: " if len(answers) > 1 else ""
        say(f"{name}{asked.answer}")
        if top:
            for one in asked.answer.alternatives:
                say(f"  {100 * one.probability:5.1f} %  {one}")


def as_json(asked: "FileAnswer") -> dict[str, object]:
    """An answer with its probability and its alternatives, or the reason why there is none."""
    from epalm.ask.answers import as_fields

    fields: dict[str, object] = {"file": asked.file, "question": asked.question}
    return fields | ({"error": asked.error} if asked.answer is None else as_fields(asked.answer))


app = typer.Typer(add_completion=False)
app.command(cls=PanelCommand)(command_from(AskOptions, command))


def main() -> None:
    """Entry point of `epalm-ask`."""
    run_app(app, examples=EXAMPLES)
