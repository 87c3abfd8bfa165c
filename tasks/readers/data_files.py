"""Files of data sets: where they are looked for, and JSON that is checked while it is read."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from epalm.errors import MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.readers.json_values import shown
from epalm.tasks.types import Example

logger = logging.getLogger(__name__)

_MOST_DIGITS = 18
"""Of a number: as many as fit into 64 bits."""


def find_file(
    name: str, *, root: Path, folders: Sequence[str], published: str, instead: Sequence[str] = ()
) -> Path:
    """The file `name` in the data root itself or in one of its `folders`.

    Args:
        name: file name.
        root: the data root.
        folders: names of sub-folders to look in after the root, in this order.
        published: what the file is and where it can be had, for the message.
        instead: paths below the root of files that serve as well, looked for last.

    Raises:
        MissingFileError: names every place looked at.
    """
    places = [root / name, *(root / folder / name for folder in folders)]
    places += [root / path for path in instead]
    for place in places:
        if place.is_file():
            return place
    raise MissingFileError(
        f"{name} was not found: looked for {_listed(places)}. It is {published}. Put it at one of "
        "these places, or name the folder that holds it with --data-root (layouts: docs/data.md)"
    )


def find_present(
    find: Callable[[str], Path], names: Sequence[str], *, owner: str, optional: Sequence[str] = ()
) -> list[Path]:
    """Those files of a set that are there; a note names the others.

    Args:
        find: gives the place of one file, or raises MissingFileError.
        names: of the files, at least one.
        owner: the set, for the note.
        optional: those of `names` that the note leaves out.

    Raises:
        MissingFileError: none is there; about the first.
    """
    found: list[Path] = []
    absent: dict[str, MissingFileError] = {}
    for name in names:
        try:
            found.append(find(name))
        except MissingFileError as error:
            absent[name] = error
    if not found:
        raise absent[names[0]]
    if missed := [name for name in absent if name not in optional]:
        shown = ", ".join(file.name for file in found)
        logger.warning(
            "%s: only the media named in %s; not found: %s", owner, shown, ", ".join(missed)
        )
    return found


def find_folder(places: Sequence[Path], *, what: str) -> Path:
    """The first of `places` that is a folder; see `find_folders`."""
    return find_folders(places, what=what)[0]


def find_folders(places: Sequence[Path], *, what: str) -> list[Path]:
    """Those of `places` that are folders, each once.

    Args:
        places: in order of preference.
        what: what the folders hold and where that can be had, for the message.

    Raises:
        MissingFileError: there is none; names every place looked at.
    """
    places = list(dict.fromkeys(places))
    found = [place for place in places if place.is_dir()]
    if found:
        return found
    raise MissingFileError(
        f"no folder holds {what}: looked for {_listed(places)}. Put the files into one of these, "
        "or name the folder above with --data-root (layouts: docs/data.md)"
    )


def folder_finder(places: Sequence[Path], *, what: str) -> Callable[[str], Path]:
    """A function from a file's name to the folder that holds it; the first one if none does.

    Several folders are listed once, and no file is asked for by itself: there may be millions.
    Arguments and errors are those of `find_folders`.
    """
    folders = find_folders(places, what=what)
    names = {folder: frozenset(os.listdir(folder)) for folder in folders[1:]}  # noqa: PTH208

    def find(name: str) -> Path:
        if not names:
            return folders[0]
        return next((folder for folder, held in names.items() if name in held), folders[0])

    return find


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
            raise MalformedFileError(f"{at} is {shown(value)}, wanted an object")
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

    def file_name(self, name: str) -> str:
        """A string with something in it, exactly as written: names may begin or end with blanks."""
        self.text(name)
        return self.identifier(name)

    def identifier(self, name: str) -> str:
        """A whole number or a string, as a string."""
        value = self._member(name, "a whole number or a string")
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise self.wrong(name, value, "a whole number or a string that is not empty")
        if isinstance(value, str) and "\0" in value:
            raise self.wrong(name, value, "a string without NUL characters")
        return str(value)

    def word(self, name: str) -> str:
        """A string, outer white space removed; "" where it is missing, null or empty."""
        value = self._members.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, value, "a string")
        return (value or "").strip()

    def number(self, name: str) -> int:
        """A whole number that is not negative, or a string of its digits."""
        value = self.identifier(name)
        if not value.isdecimal() or len(value) > _MOST_DIGITS:
            raise self.wrong(name, value, f"a number of at most {_MOST_DIGITS} digits")
        return int(value)

    def child(self, name: str) -> "JsonRecord":
        """An object."""
        above = f"{self._place}.{name}" if self._place else name
        return JsonRecord(self._member(name, "an object"), self._file, above)

    def column(self, name: str, member: str) -> list[str]:
        """The string `member` of each object of a list, outer white space removed; may be empty."""
        texts = []
        for index, value in enumerate(self._list(name)):
            text = value.get(member) if isinstance(value, dict) else None
            if not isinstance(text, str):
                raise self.wrong(f"{name}[{index}]", value, f"an object with a string {member!r}")
            texts.append(text.strip())
        return texts

    def sentences(self, name: str) -> list[str]:
        """A string, or a list of strings: never an empty list, none of them empty."""
        value = self._member(name, "a string or a list of strings")
        values = value if isinstance(value, list) else [value]
        for one in values or [value]:
            if not isinstance(one, str) or not one.strip():
                raise self.wrong(name, value, "a string or a list of strings, none of them empty")
        return [str(one).strip() for one in values]

    def scores(self, name: str, *, at_least: int = 1) -> dict[str, float]:
        """An object of so many or more texts -> score from 0 to 1; outer white space is removed."""
        wanted = f"an object of at least {at_least} answer -> score from 0 to 1"
        value = self._member(name, wanted)
        if not isinstance(value, dict) or len(value) < at_least:
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
        return MalformedFileError(f"{self._at(name)} is {shown(value)}, wanted {wanted}")

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


def _listed(places: Sequence[Path]) -> str:
    return ", ".join(map(str, places))
