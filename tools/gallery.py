"""Make the adapters of the gallery, and publish them into a folder in the layout of the hub.

    python -m tools.gallery OUT --data ../shared/data --models ../shared/models --owner me
    python -m tools.gallery OUT ... --only esc10

Each adapter of tools/gallery.toml is extracted, trained and evaluated together with its blind
control, and published to OUT/hub/OWNER/NAME with the files that `epalm-push` would upload. Its
model card is copied to docs/gallery/NAME.md; the table of the gallery is made from these cards.
Finished steps are not repeated: re-run the same command to resume.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.hub.push import planned_upload, write_card_for

ROOT = Path(__file__).resolve().parents[1]

GALLERY = ROOT / "tools" / "gallery.toml"

CARDS = ROOT / "docs" / "gallery"


@dataclass(frozen=True)
class Adapter:
    """One adapter of the gallery.

    Attributes:
        name: name of the run and of its repository.
        store: file name of the store in OUT/cache.
        lm: language model.
        extract: options of `epalm-extract`.
        train: options of `epalm-train`.
        evaluate: options of `epalm-eval`.
    """

    name: str
    store: str
    lm: str
    extract: Sequence[str]
    train: Sequence[str]
    evaluate: Sequence[str]

    @classmethod
    def read(cls, name: str, table: Mapping[str, Any], places: Mapping[str, str]) -> "Adapter":
        """Read its table of the file, with the folders of data and models put in."""

        def options(key: str) -> list[str]:
            return [option.format_map(places) for option in table[key]]

        return cls(
            name,
            table["store"],
            table["lm"].format_map(places),
            options("extract"),
            options("train"),
            options("evaluate"),
        )

    def commands(self) -> Iterator[list[str]]:
        """The commands that make the run and evaluate it, and its blind control."""
        features = f"cache/{self.store}"
        yield ["epalm-extract", *self.extract, f"--out={features}"]
        training = [f"--features={features}", f"--lm={self.lm}", *self.train]
        control = f"{self.name}_blind"
        yield ["epalm-train", *training, f"--name={self.name}"]
        yield ["epalm-train", *training, "--blind", f"--name={control}"]
        yield ["epalm-eval", f"--run=runs/{control}", "--blind", *self.evaluate]
        yield ["epalm-eval", f"--run=runs/{self.name}", *self.evaluate]


def adapters(names: Sequence[str], data: Path, models: Path) -> list[Adapter]:
    """The adapters of the file with these names; all for no name.

    Raises:
        SystemExit: there is none of a name.
    """
    tables = tomllib.loads(GALLERY.read_text(encoding="utf-8"))
    if unknown := [name for name in names if name not in tables]:
        raise SystemExit(f"{', '.join(unknown)}: the gallery has {', '.join(tables)}")
    places = {"data": str(data.resolve()), "models": str(models.resolve())}
    return [Adapter.read(name, tables[name], places) for name in names or tables]


def publish(run: Path, hub: Path, repository: str) -> Path:
    """Copy what a push would upload to a folder that is like the repository; that folder.

    Args:
        run: folder of a finished run.
        hub: folder with all repositories.
        repository: owner/name.
    """
    upload = planned_upload(str(run), repository, checkpoints=False)
    write_card_for(upload, run)
    target = hub / repository
    shutil.rmtree(target, ignore_errors=True)
    for file in upload.files:
        copied = target / file.name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, copied)
    return target


def main(arguments: list[str]) -> int:
    """Make and publish the adapters; returns the exit code of a command that failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets")
    parser.add_argument("--models", type=Path, required=True, help="folder of the models")
    parser.add_argument("--owner", default="epalm", help="owner of the repositories")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    CARDS.mkdir(exist_ok=True)
    for adapter in adapters(options.only, options.data, options.models):
        for name, *words in adapter.commands():
            command = [str(Path(sys.executable).with_name(name)), *words]
            code = subprocess.run(command, cwd=options.out, check=False).returncode
            if code:
                return code
        repository = f"{options.owner}/{adapter.name}"
        published = publish(options.out / "runs" / adapter.name, options.out / "hub", repository)
        shutil.copyfile(published / "README.md", CARDS / f"{adapter.name}.md")
        sys.stdout.write(f"{adapter.name}: {published}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
