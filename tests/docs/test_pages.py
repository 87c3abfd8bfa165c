"""Pages name only options, files, classes and keys that exist; their links lead somewhere."""

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from epalm.__main__ import COMMANDS
from epalm.model.method.resampler_shape import ResamplerShape
from epalm.train.config.recipe import Recipe, Schedule
from tests.docs.pages import CODE_BLOCK, DOCS, anchors, defined_names, exists, texts
from tests.repository import PACKAGES, ROOT, needs_checkout, sources

pytestmark = needs_checkout

OTHER_PROGRAMS = {
    "--help",
    *("--quiet", "--editable"),  # pip
    *("--logdir", "--project", "--strict", "--check"),  # TensorBoard, trackio, mkdocs, ruff
    *("--nproc-per-node", "--nnodes", "--no-python"),  # torchrun
    *("--rdzv-backend", "--rdzv-endpoint"),
    *("--nodes", "--ntasks-per-node", "--cpus-per-task", "--gpus", "--array", "--wrap"),  # SLURM
    *("--signal", "--requeue"),
    *("--override", "--tasks", "--output"),  # uv, lmms-eval (whose names go on with "_path")
}
"""Options of pip, click, torchrun, SLURM and others."""

OTHER_NAMES = {
    *("AutoTokenizer", "Flicker8k_Dataset", "RUN_blind", "SmolLM2", "OPT-2"),
    *("VisionTransformer", "DataLoader", "Exception", "None"),
}
"""Names in code that are not ours: of libraries, datasets and examples."""

CLASS = re.compile(r"`([A-Z][a-z]+[A-Z]\w*|[A-Z]\w*[a-z]\w*)(?:\(|`|\.)")
DOTTED = re.compile(r"(?<![\w/.-])epalm(?:\.[A-Za-z_]\w*)+")
OPTIONAL = frozenset(("ray", "pyspark"))
"""Packages of extras that the extra `dev` does not have."""

SERVER_FIELDS = {"blind", "alternatives", "neighbors", "num_beams"}
"""Fields below `epalm` in a request to `epalm-serve`."""

PAGES = sorted(texts())


@pytest.fixture(scope="module")
def declared() -> set[str]:
    """The options of all commands, and those that scripts in bench/ and tools/ declare."""
    names = {
        option
        for module, _ in COMMANDS.values()
        for option in _options(typer.main.get_command(import_module(module).app))
    }
    for folder in ("bench", "tools", ".ci"):
        for script in (ROOT / folder).rglob("*.py"):
            names |= set(re.findall(r"\"(--[a-z][a-z-]+)\"", script.read_text(encoding="utf-8")))
            fields_of_script = re.findall(r"^    (\w+): ", script.read_text("utf-8"), re.MULTILINE)
            names |= {f"--{name.replace('_', '-')}" for name in fields_of_script}
    return names


def _options(command: Any) -> Iterator[str]:  # noqa: ANN401 - click's
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for subcommand in getattr(command, "commands", {}).values():
        yield from _options(subcommand)


@pytest.mark.parametrize("page", PAGES)
def test_every_option_exists(page: str, declared: set[str]) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", texts()[page]))
    assert named - declared - OTHER_PROGRAMS == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_key_exists(page: str) -> None:
    tables = {"schedule": Schedule, "resampler": ResamplerShape}
    known = {one.name for one in fields(Recipe)} | {"key"}
    for table, record in tables.items():
        known |= {f"{table}.{one.name}" for one in fields(record)}
    assert set(re.findall(r"--set [\"']?([\w.]+)=", texts()[page])) - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_class_exists(page: str) -> None:
    text = CODE_BLOCK.sub("", texts()[page])
    assert {*CLASS.findall(text)} - defined_names() - OTHER_NAMES == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_dotted_name_can_be_imported(page: str) -> None:
    missing = [name for name in {*DOTTED.findall(texts()[page])} if not _importable(name)]
    assert missing == []


def _importable(name: str) -> bool:
    """Whether a dotted name is a module or an attribute of one."""
    head, *rest = name.split(".")
    value = import_module(head)
    if rest[0] in SERVER_FIELDS | {"py", "egg"}:
        return True
    for index, part in enumerate(rest):
        try:
            if not hasattr(value, part):
                import_module(".".join((head, *rest[: index + 1])))
            value = getattr(value, part)
        except ImportError as error:
            return error.name in OPTIONAL  # the name exists, its package is not installed
    return True


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_repository_exists(page: str) -> None:
    text = texts()[page]
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."
    )
    paths = set(re.findall(r"(?<![\w/.:-])((?:[\w-]+/)+\w+\.py)\b", text))
    paths |= set(
        re.findall(rf"(?<![\w/.:-])((?:{folders})/(?:[\w-]+/)*[\w-]+\.(?:md|toml|svg))\b", text)
    )
    assert [path for path in paths if not exists(path, ROOT)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_page_and_a_heading(page: str) -> None:
    wrong = []
    for target, fragment in re.findall(
        r"\]\(([^)#\s]*)(#[^)\s]*)?\)", CODE_BLOCK.sub("", texts()[page])
    ):
        if "://" in target:
            continue
        base = (ROOT / page).parent
        path = (base / target).resolve() if target else ROOT / page
        name = str(path.relative_to(ROOT))
        found = exists(target, base)
        if not found or (fragment and fragment[1:] not in anchors(texts()[name])):
            wrong.append(f"{target}{fragment}")
    assert wrong == []


def test_the_site_lists_every_page_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/-]+\.md)$", text, re.MULTILINE)
    pages = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")]
    assert sorted(listed) == sorted(pages)


PROSE = sorted(set(DOCS.rglob("*.md")) - set((DOCS / "gallery").glob("*.md")))
"""The pages that people write; those of the gallery are model cards."""


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.stem)
def test_a_page_says_what_its_reader_can_do(page: Path) -> None:
    if page.name != "index.md":
        assert re.search(r"^After (?:reading )?this page\b", page.read_text("utf-8"), re.MULTILINE)


WRONG = {
    "test_every_option_exists": "`--no-such-option`",
    "test_every_class_exists": "`NoSuchClass`",
    "test_every_file_of_the_repository_exists": "`train/no_such_file.py`",
    "test_every_dotted_name_can_be_imported": "`epalm.train.no_such_name`",
    "test_every_link_leads_to_a_page_and_a_heading": "[x](docs/no_such_page.md)",
    "test_every_recipe_key_exists": "--set no_such_key=1",
}


@pytest.mark.parametrize("check", WRONG)
def test_the_checks_find_what_does_not_exist(
    check: str, declared: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(texts(), "README.md", WRONG[check])
    more = (declared,) if check == "test_every_option_exists" else ()
    with pytest.raises(AssertionError):
        globals()[check]("README.md", *more)


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_name_pages_that_exist(package: str) -> None:
    missing = {
        (file.name, page)
        for file in sources(package)
        for page in re.findall(r"docs/[\w/.-]*\.md", file.read_text(encoding="utf-8"))
        if not (ROOT / page).is_file()
    }
    assert missing <= {("gpu_speeds.py", "docs/vit_guide.md")}  # of FasterTransformer
