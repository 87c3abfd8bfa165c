"""Tar files of captioned photos, as img2dataset and others write them for WebDataset.

A sample is the files of one stem: `000000012.jpg` and its caption, `000000012.txt`. The photos stay
where they are: what is read is each member's header, and the captions.
"""

import tarfile
from pathlib import Path
from typing import NamedTuple

from epalm.errors import MalformedFileError
from epalm.tasks.readers.json_values import SURROGATE, shown
from epalm.tasks.types import ByteRange

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
CAPTION_ENDING = ".txt"

TAR_ENDING = ".tar"


class TarImage(NamedTuple):
    """One photo of a tar file.

    Attributes:
        name: of the member.
        part: where it lies in the tar file.
        caption: in one line; empty if there is no text of this stem.
    """

    name: str
    part: ByteRange
    caption: str


def read_shard(file: Path) -> list[TarImage]:
    """The photos of an uncompressed tar file, in its order.

    Raises:
        MalformedFileError: it is no such file, or ends early; a text is not UTF-8.
    """
    photos: list[tuple[str, ByteRange]] = []
    captions: dict[str, str] = {}
    try:
        # tarfile stops at what it cannot read behind the first header, and says nothing: so the
        # empty block that ends every archive has to be where it stopped.
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                name = member.name.removeprefix("./")
                if SURROGATE.search(name):
                    raise MalformedFileError(f"{file}: the name {shown(name)} is not UTF-8")
                stem, ending = _split(name)
                if not member.isreg():
                    continue
                if ending in PHOTO_ENDINGS:
                    photos.append((name, ByteRange(member.offset_data, member.size)))
                elif ending == CAPTION_ENDING and (text := shard.extractfile(member)) is not None:
                    captions[stem] = in_one_line(text.read(), f"{file}, {name}")
        if any(ByteRange(shard.offset, tarfile.BLOCKSIZE).read(file)):
            raise tarfile.ReadError(f"no header at byte {shard.offset}")
    except (tarfile.TarError, OSError) as error:
        raise MalformedFileError(
            f"{file} is not a whole, uncompressed tar file ({error}): download it again, or "
            "unpack what compresses it"
        ) from error
    return [TarImage(name, part, captions.get(_split(name)[0], "")) for name, part in photos]


def in_one_line(content: bytes, where: str) -> str:
    """The text of a caption file, its white space made single blanks.

    Raises:
        MalformedFileError: not UTF-8.
    """
    try:
        return " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{where} is not UTF-8: {error}") from error


def _split(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    return stem, (dot + ending).lower()
