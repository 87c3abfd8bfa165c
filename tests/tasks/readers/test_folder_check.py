"""Files outside a dataset's folder are read only with --allow-outside."""

import json
import os
from pathlib import Path

import pytest

from epalm.errors import DataError
from epalm.tasks.readers.folder_check import check_inside
from epalm.tasks.task_registry import load_media
from epalm.tasks.types import MediaItem, MediaSet
from tests.tasks.cc3m_files import write_cc3m_tars


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset's folder next to a private one, to which links lead."""
    made = tmp_path / "data"
    (made / "images").mkdir(parents=True)
    (made / "images" / "a.jpg").touch()
    private = tmp_path / "private"
    private.mkdir()
    (private / "me.jpg").touch()
    (made / "folder").symlink_to(private)
    (made / "images" / "file.jpg").symlink_to(private / "me.jpg")
    (made / "images" / "within.jpg").symlink_to("a.jpg")
    (made / "copies").symlink_to("images")
    return made


def name_media(folder: Path, *names: str) -> str:
    lines = [json.dumps({"id": str(row), "media": name}) for row, name in enumerate(names)]
    (folder / "train.jsonl").write_text("\n".join(lines))
    return str(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../private/me.jpg",
        "images/../../private/me.jpg",
        "ROOT/../private/me.jpg",
        "ROOT/images/a.jpg",
        "folder/me.jpg",
        "images/file.jpg",
        "copies/file.jpg",
        "../data/images/a.jpg",
        "not there/../../me.jpg",
    ],
)
def test_a_path_that_leads_outside_is_refused_unless_allowed(folder: Path, name: str) -> None:
    named = name_media(folder, "images/a.jpg", name.replace("ROOT", str(folder)))
    with pytest.raises(DataError, match=r"leads out of .*data, to .*--allow-outside"):
        load_media(named)
    with pytest.raises(DataError, match="leads out of"):
        load_media(str(folder / "train.jsonl"))
    assert len(load_media(named, allow_outside=True).items) == 2


def test_dots_in_names_and_links_inside_the_folder_are_accepted(folder: Path) -> None:
    names = "images/..a.jpg", "images/within.jpg", "copies/a.jpg", "a..b/c.jpg", "gone/d.jpg"
    assert len(load_media(name_media(folder, *names)).items) == 5


def test_the_folder_of_a_manifest_may_be_a_link(folder: Path) -> None:
    name_media(folder, "images/a.jpg")
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert len(load_media(str(link)).items) == 1


@pytest.mark.parametrize("name", ["../private/me.jpg", "folder/me.jpg"])
def test_paths_in_a_table_of_conceptual_captions_are_checked(folder: Path, name: str) -> None:
    (folder / "val.tsv").write_text(f"a cat\t{name}\n")
    with pytest.raises(DataError, match="leads out of"):
        load_media("cc3m", folder)
    assert len(load_media("cc3m", folder, allow_outside=True).items) == 1


def test_a_tar_file_that_links_outside_is_refused(tmp_path: Path) -> None:
    write_cc3m_tars(tmp_path)
    tar = tmp_path / "cc3m" / "train" / "00001.tar"
    (tmp_path / "elsewhere.tar").write_bytes(tar.read_bytes())
    tar.unlink()
    tar.symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(DataError, match=r"00001.tar.* leads out of"):
        load_media("cc3m", tmp_path)


def test_paths_in_published_files_are_checked_against_the_image_folder(
    folder: Path,
) -> None:
    entry = {"filename": "a.jpg", "split": "train", "sentences": []}
    for name in ("a.jpg", "../private/me.jpg"):
        entries = {"images": [entry | {"filename": name}]}
        (folder / "dataset_flickr8k.json").write_text(json.dumps(entries))
        if name == "a.jpg":
            assert load_media("flickr8k", folder).items[0].path == folder / "images" / "a.jpg"
        else:
            with pytest.raises(DataError, match=r"me.jpg.* leads out of .*images"):
                load_media("flickr8k", folder)


def test_factories_given_by_the_user_are_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from epalm.plugins import TypedName

    (tmp_path / "made.py").write_text("from tests.tasks.readers.test_folder_check import outside\n")
    monkeypatch.chdir(tmp_path)
    assert load_media(TypedName("made:outside"), tmp_path).items[0].name == "../a.jpg"


def outside(root: Path) -> MediaSet:
    return MediaSet("made", (MediaItem("a", root, "../a.jpg"),), (), root)


def test_each_folder_is_listed_once_even_if_items_of_two_folders_alternate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    scandir = os.scandir

    def noted(path: Path) -> object:
        listed.append(str(path))
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", noted)
    roots = (folder, folder / "images")
    items = [MediaItem(f"{n}", roots[n % 2], f"{n}.jpg") for n in range(6)]
    check_inside(items)
    assert listed == [str(root) for root in roots]
    with pytest.raises(DataError, match=r"file\.jpg\W leads out of"):
        check_inside([*items, MediaItem("link", folder / "images", "file.jpg")])
