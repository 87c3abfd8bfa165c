"""Write CC3M in each of its layouts; only the tar files contain images."""

import io
import tarfile
from pathlib import Path

from PIL import Image


def write_cc3m_table(root: Path) -> None:
    folder = root / "cc3m"
    folder.mkdir(parents=True)
    lines = ["a dog runs\tphotos/0.jpg", "un café\tphotos/1.jpg", "\tphotos/2.jpg", ""]
    (folder / "train.tsv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    (folder / "val.tsv").write_text("a cup\tphotos/3.jpg\n", encoding="utf-8")
    (folder / "photos").mkdir()


SHARDS = {
    "train/00000/000000001": "a dog runs",
    "train/00001/000010007": "un\ncafé",
    "train/00001/000010008": " ",
    "val/00000/000000000": "a cup",
}


def write_cc3m_shards(root: Path) -> None:
    for name, caption in SHARDS.items():
        file = root / "cc3m" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(caption, encoding="utf-8")
        file.with_suffix(".json").write_text("{}")
        file.with_suffix(".jpg").write_bytes(b"")


def write_cc3m_tars(root: Path) -> None:
    for number, (name, caption) in enumerate(SHARDS.items()):
        folder, stem = name.rsplit("/", 1)
        image = io.BytesIO()
        Image.new("RGB", (40 + number, 30), (60 * number, 90, 20)).save(image, "JPEG")
        file = root / "cc3m" / f"{folder}.tar"
        file.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(file, "a") as shard:
            add_member(shard, f"{stem}.json", b"{}")
            add_member(shard, f"{stem}.txt", caption.encode())
            add_member(shard, f"{stem}.jpg", image.getvalue())


def add_member(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))
