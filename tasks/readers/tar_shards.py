"""Read tar files of captioned images in the WebDataset layout, as img2dataset writes them.

A sample consists of the files of one stem: `000000012.jpg` and its caption `000000012.txt`. Only
the headers and the captions are read; images are decoded later from their byte ranges.
"""

import tarfile
from pathlib import Path
from typing import NamedTuple

from epalm.errors import MalformedFileError
from epalm.tasks.types import ByteRange
from epalm.untrusted.json_values import SURROGATE
from epalm.untrusted.quoted_values import quote

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
CAPTION_EXTENSION = ".txt"

TAR_EXTENSION = ".tar"


class TarImage(NamedTuple):
    """One image of a tar file.

    Attributes:
        name: name of the tar member.
        part: position of the image in the tar file.
        caption: caption in one line; empty if there is no text file with this stem.
    """

    name: str
    part: ByteRange
    caption: str


def read_shard(file: Path) -> list[TarImage]:
    """List the images of an uncompressed tar file, in file order.

    Raises:
        MalformedFileError: the file is not an uncompressed tar file, is truncated, or a caption is
            not UTF-8.
    """
    images: list[tuple[str, ByteRange]] = []
    captions: dict[str, str] = {}
    try:
        # After the first header, tarfile silently stops at what it cannot read: check that it
        # stopped at the empty block that ends every archive.
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                name = member.name.removeprefix("./")
                if SURROGATE.search(name):
                    raise MalformedFileError(f"{file}: the member name {quote(name)} is not UTF-8")
                stem, extension = _split(name)
                if not member.isreg():
                    continue
                if extension in IMAGE_EXTENSIONS:
                    images.append((name, ByteRange(member.offset_data, member.size)))
                elif (
                    extension == CAPTION_EXTENSION
                    and (text := shard.extractfile(member)) is not None
                ):
                    captions[stem] = decode_caption(text.read(), f"{file}, {name}")
        if any(ByteRange(shard.offset, tarfile.BLOCKSIZE).read(file)):
            raise tarfile.ReadError(f"no header at byte {shard.offset}")
    except (tarfile.TarError, OSError) as error:
        raise MalformedFileError(
            f"{file} is not a complete, uncompressed tar file ({error}): download it again, or "
            "decompress it"
        ) from error
    return [TarImage(name, part, captions.get(_split(name)[0], "")) for name, part in images]


def decode_caption(content: bytes, where: str) -> str:
    """Decode a caption, and collapse its whitespace to single spaces.

    Args:
        content: the bytes of the caption file.
        where: the file, for the error message.

    Raises:
        MalformedFileError: the text is not UTF-8.
    """
    try:
        return " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{where} is not UTF-8: {error}") from error


def _split(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    return stem, (dot + extension).lower()
