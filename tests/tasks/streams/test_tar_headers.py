import io
import tarfile
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError
from epalm.tasks.readers.tar_shards import read_shard
from epalm.tasks.streams import tar_headers
from epalm.tasks.streams.tar_headers import list_members

NAMES = [
    *("a.jpg", "./b.jpg", "ä/ö.png", "dir/", f"{'long' * 30}.jpg", f"{'p' * 90}/{'q' * 90}.jpg"),
    *(f"{'ü' * 80}.webp", f"{'/'.join('xyz' * 40)}.jpg", "empty.txt", "last.JPG"),
]


def write_tar(path: Path, tar_format: int, names: list[str] = NAMES) -> Path:
    with tarfile.open(path, "w", format=tar_format) as archive:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            elif name != "empty.txt":
                member.size = 1 + 700 * number
            member.mtime = 12345.678 if tar_format == tarfile.PAX_FORMAT else 12345
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        archive.addfile(link)
    return path


def expected(path: Path) -> list[tuple[str, int, int]]:
    with tarfile.open(path, "r:") as archive:
        return [
            (member.name.removeprefix("./"), member.offset_data, member.size)
            for member in archive
            if member.isreg()
        ]


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(tmp_path: Path, tar_format: int) -> None:
    path = write_tar(tmp_path / "a.tar", tar_format)
    assert list_members(path) == expected(path)


def test_the_fast_reader_reads_all_names_but_links_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tar_headers, "_tarfile_members", lambda file: pytest.fail("left to tarfile")
    )
    short = [name for name in NAMES if len(name.encode()) < 100]
    for tar_format, names in (
        (tarfile.USTAR_FORMAT, [*short, NAMES[5]]),
        (tarfile.GNU_FORMAT, NAMES),
        (tarfile.PAX_FORMAT, NAMES),
    ):
        with tarfile.open(tmp_path / "a.tar", "w", format=tar_format) as archive:
            for name in names:
                member = tarfile.TarInfo(name.removesuffix("/"))
                member.size, member.mtime = 600, 1.5 if tar_format == tarfile.PAX_FORMAT else 1
                archive.addfile(member, io.BytesIO(bytes(600)))
        assert list_members(tmp_path / "a.tar") == expected(tmp_path / "a.tar")


def test_unusual_archives_are_read_by_tarfile(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(
        path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}
    ) as archive:
        big = tarfile.TarInfo("big.jpg")
        big.size, big.uid = 10, 1 << 40  # a number that octal digits cannot represent
        archive.addfile(big, io.BytesIO(bytes(10)))
    assert list_members(path) == expected(path)


@pytest.mark.parametrize("left", [0, 100, 512, 5000, -512, -600])
def test_a_cut_archive_is_refused_as_by_the_reader_of_captions(tmp_path: Path, left: int) -> None:
    path = write_tar(tmp_path / "a.tar", tarfile.GNU_FORMAT)
    with tarfile.open(path) as archive:
        for _ in archive:
            pass
        end = archive.offset
    path.write_bytes(path.read_bytes()[: left if left >= 0 else end + 512 + left])
    with pytest.raises(MalformedFileError, match="not a complete, uncompressed tar file") as actual:
        list_members(path)
    with pytest.raises(MalformedFileError) as known:
        read_shard(path)
    assert str(actual.value) == str(known.value)


def test_a_changed_byte_of_a_header_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", tarfile.GNU_FORMAT)
    content = bytearray(path.read_bytes())
    content[1024 + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(MalformedFileError, match="not a complete, uncompressed tar file"):
        list_members(path)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", tarfile.GNU_FORMAT, ["a\udcff.jpg"])
    with pytest.raises(MalformedFileError, match=r"the member name .* is not UTF-8"):
        list_members(path)
