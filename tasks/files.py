"""Files of data sets: where they are looked for, and JSON that is checked while it is read."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from epalm.errors import MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.records import Example

SHOWN_CHARACTERS = 60
"""A value that a message quotes is cut after so many characters."""


def find_file(name: str, *, root: Path, folders: Sequence[str], published: str) -> Path:
    """The file `name` in the data root itself or in one of its `folders`.

    Args:
        name: file name.
        root: the data root.
        folders: names of sub-folders to look in after the root, in this order.
        published: what the file is and where it can be had, for the message.

    Raises:
        MissingFileError: names every place looked at.
    """
    places = [root / name, *(root / folder / name for folder in folders)]
    for place in places:
        if place.is_file():
            return place
    raise MissingFileError(
        f"{name} was not found: looked for {_listed(places)}. It is {published}. "
        "Put it at one of these places, or name the folder that holds it with --data-root"
    )


def find_folder(places: Sequence[Path], *, what: str) -> Path:
    """The first of `places` that is a folder.

    Args:
        places: in order of preference.
        what: what the folder holds and where that can be had, for the message.

    Raises:
        MissingFileError: names every place looked at.
    """
    for place in places:
        if place.is_dir():
            return place
    raise MissingFileError(
        f"no folder holds {what}: looked for {_listed(places)}. "
        "Put the files into one of these, or name the folder above with --data-root"
    )


def check_split(split: str, known: Sequence[str], *, owner: str) -> None:
    """Refuse a split that `owner`, a task or a file, does not have.

    Raises:
        UnknownSplitError: names the known ones.
    """
    if split not in known:
        raise UnknownSplitError(f"{owner} has no split {split!r}: choose one of {', '.join(known)}")


def with_unique_ids(examples: list[Example], *, file: Path) -> list[Example]:
    """The same examples, once it is sure that no two share a question_id.

    Args:
        examples: of one split.
        file: what they were read from, for the message.

    Raises:
        MalformedFileError: names the first id that stands there twice.
    """
    seen: set[str] = set()
    for example in examples:
        if example.question_id in seen:
            raise MalformedFileError(f"{file}: the id {example.question_id} stands there twice")
        seen.add(example.question_id)
    return examples


class JsonRecord:
    """A JSON object whose members are checked when they are asked for.

    Every method raises MalformedFileError where the member it reads is missing or of another type;
    the message names file and place.

    Args:
        value: what `json` read.
        file: the file it was read from.
        place: where in the file, e.g. "images[3]"; empty for the outermost object.

    Raises:
        MalformedFileError: `value` is no object.
    """

    __slots__ = ("_file", "_members", "_place")

    def __init__(self, value: object, file: Path, place: str = "") -> None:
        if not isinstance(value, dict):
            at = f"{file}: {place}" if place else str(file)
            raise MalformedFileError(f"{at} is {_shown(value)}, wanted an object")
        self._members: dict[str, object] = value
        self._file = file
        self._place = place

    def has(self, name: str) -> bool:
        """Whether there is a member of this name."""
        return name in self._members

    def text(self, name: str) -> str:
        """A string with something in it, outer white space removed."""
        value = self._member(name, "a string")
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, value, "a string that is not empty")
        return value.strip()

    def identifier(self, name: str) -> str:
        """A whole number or a string, as a string."""
        value = self._member(name, "a whole number or a string")
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise self.wrong(name, value, "a whole number or a string that is not empty")
        return str(value)

    def texts(self, name: str) -> list[str]:
        """A list of strings, outer white space removed; they may be empty."""
        values = self._list(name)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.wrong(f"{name}[{index}]", value, "a string")
        return [str(value).strip() for value in values]

    def sentences(self, name: str) -> list[str]:
        """A string, or a list of strings: never an empty list, none of them empty."""
        value = self._member(name, "a string or a list of strings")
        values = value if isinstance(value, list) else [value]
        for one in values or [value]:
            if not isinstance(one, str) or not one.strip():
                raise self.wrong(name, value, "a string or a list of strings, none of them empty")
        return [str(one).strip() for one in values]

    def scores(self, name: str) -> dict[str, float]:
        """An object of at least one text -> score from 0 to 1; outer white space is removed."""
        wanted = "an object of at least one answer -> score from 0 to 1"
        value = self._member(name, wanted)
        if not isinstance(value, dict) or not value:
            raise self.wrong(name, value, wanted)
        for score in value.values():
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise self.wrong(name, value, wanted)
        return {str(text).strip(): float(score) for text, score in value.items()}

    def records(self, name: str) -> "Iterator[JsonRecord]":
        """The objects of a list, each knowing its place."""
        above = f"{self._place}.{name}" if self._place else name
        for index, value in enumerate(self._list(name)):
            yield JsonRecord(value, self._file, f"{above}[{index}]")

    def wrong(self, name: str, value: object, wanted: str) -> MalformedFileError:
        """An error about one member: what was found there and what was wanted."""
        return MalformedFileError(f"{self._at(name)} is {_shown(value)}, wanted {wanted}")

    def _list(self, name: str) -> list[object]:
        value = self._member(name, "a list")
        if not isinstance(value, list):
            raise self.wrong(name, value, "a list")
        return value

    def _member(self, name: str, wanted: str) -> object:
        if name not in self._members:
            raise MalformedFileError(f"{self._at(name)} is missing, wanted {wanted}")
        return self._members[name]

    def _at(self, name: str) -> str:
        return f"{self._file}: {self._place}.{name}" if self._place else f"{self._file}: {name}"


def read_json(
    path: Path, *, object_hook: Callable[[dict[str, object]], object] | None = None
) -> JsonRecord:
    """The outermost object of a JSON file.

    Args:
        path: the file, UTF-8.
        object_hook: as for `json.loads`.

    Raises:
        MalformedFileError: no JSON (says at which line and column it ends to be), or no object.
    """
    return JsonRecord(_value(path, object_hook), path)


def read_json_list(path: Path) -> list[JsonRecord]:
    """The objects of a JSON file whose outermost value is a list.

    Args:
        path: the file, UTF-8.

    Raises:
        MalformedFileError: no JSON, no list, an empty one, or something else than an object in it.
    """
    values = _value(path, None)
    if not isinstance(values, list) or not values:
        raise MalformedFileError(f"{path} is {_shown(values)}, wanted a list of objects")
    return [JsonRecord(value, path, f"[{index}]") for index, value in enumerate(values)]


def _value(path: Path, object_hook: Callable[[dict[str, object]], object] | None) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_hook=object_hook)
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{path}: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise MalformedFileError(
            f"{path}: no JSON from line {error.lineno}, column {error.colno} on ({error.msg}); "
            "if a download was cut short, fetch the file again"
        ) from error


def _listed(places: Sequence[Path]) -> str:
    return ", ".join(map(str, places))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
