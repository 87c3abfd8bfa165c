"""Which package may import which, read from the sources without importing them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.repository import PACKAGES, imported_names, module_name, sources

FOUNDATION = {
    *(
        "atomic_write",
        "console",
        "devices",
        "errors",
        "failures",
        "options",
        "number_ranges",
        "plugins",
    ),
    *("callable_module", "portable_path", "precision", "system_memory", "terminal", "untrusted"),
}
"""Modules of the root package that every package may import, and its folder `untrusted`."""

MAY_IMPORT: dict[str, set[str]] = {
    "epalm": set(),
    "tasks": set(),
    "media": set(),
    "cache": set(),
    "model": set(),
    "metrics": {"tasks"},
    "hub": {"cache", "model"},
    "extract": {"cache", "tasks", "media"},
    "train": {"cache", "tasks", "media", "model", "metrics", "hub"},
    "evaluate": {"cache", "tasks", "model", "metrics", "media", "hub"},
    "ask": {*("tasks", "media", "cache", "model", "extract", "demo"), "evaluate", "metrics", "hub"},
    "api": {"cache", "extract", "tasks", "train", "evaluate", "metrics", "ask"},
    "demo": {"tasks", "media", "cache", "model", "metrics", "hub", "extract", "train", "evaluate"},
    "serve": {*("tasks", "media", "cache", "model", "extract", "ask"), "evaluate"},
}

MUST_NOT_IMPORT: dict[str, set[str]] = {
    "epalm": {"torch"},
    "cache": {"torch"},
    "media": {"torch"},
    "model": {"zarr", "h5py"},
    "train": {"timm", "torchaudio"},
    "evaluate": {"timm", "torchaudio"},
    "hub": {"torch", "timm", "torchaudio"},
}
"""Libraries; what the package imports of ours is held to its own list."""

PUBLIC_FILES = {("epalm", name) for name in ("__main__.py", "__init__.py", "ray.py")} | {
    (package, "__init__.py") for package in ("evaluate", "extract", "train")
}
"""Files with the names of what users call, whose modules are imported on first use."""

ENTRY = re.compile(r"epalm(\.\w+)+(:\w+)?")
"""An import written as a string: an entry of a registry, an argument of import_module."""


def imported(tree: ast.Module) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it; relative ones begin with a dot."""
    yield from imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and ENTRY.fullmatch(str(node.value)):
            yield str(node.value).replace(":", ".")


def violations(package: str, source: str) -> list[str]:
    """The imports of a source text that its package must not make."""
    allowed = MAY_IMPORT[package] | FOUNDATION | ({package} - {"epalm"})
    actual = []
    for name in imported(ast.parse(source)):
        first, *rest = name.split(".")
        if first == "":
            actual.append(f"relative import of {name}")
        elif first in PACKAGES and first != "epalm":
            actual.append(f"{name} lacks the leading epalm")
        elif first == "epalm" and rest and rest[0] in PACKAGES.keys() | FOUNDATION:
            actual += [name] if rest[0] not in allowed else []
        elif first in MUST_NOT_IMPORT.get(package, set()) and package != "epalm":
            actual.append(name)  # the foundation may import inside a function; see the last test
        elif package == "tasks" and first not in sys.stdlib_module_names | {"epalm"}:
            actual.append(f"{name} is not in the standard library")
    return actual


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_each_package_imports_only_what_its_layer_may(package: str) -> None:
    actual = {
        module_name(package, file): wrong
        for file in sources(package)
        if (package, file.name) not in PUBLIC_FILES
        if (wrong := violations(package, file.read_text(encoding="utf-8")))
    }
    assert actual == {}


def test_the_table_covers_every_package() -> None:
    assert sorted(MAY_IMPORT) == sorted(PACKAGES)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("train", "import epalm.extract.run_extraction"),
        ("train", "from epalm import evaluate"),
        ("train", "def later():\n    from epalm.extract.encoders.timm_vit import Vit"),
        ("extract", "from epalm.train.config.recipe import Recipe"),
        ("metrics", "from epalm.model.engine.model_batch import Batch"),
        ("tasks", "from epalm.cache.spec import StoreSpec"),
        ("tasks", "import numpy as np"),
        ("tasks", "from . import records"),
        ("tasks", "from .records import Example"),
        ("evaluate", "import evaluate"),
        ("evaluate", "from metrics.registry import METRICS"),
        ("cache", "from torch import Tensor"),
        ("media", "from epalm.tasks.types import Part"),
        ("model", "import h5py"),
        ("evaluate", "import torchaudio.functional"),
        ("train", "import_module('epalm.extract.encoders.encoder_registry')"),
        ("model", "ENTRIES = {'vit': 'epalm.extract.encoders.timm_vit:Vit'}"),
        ("epalm", "from epalm.tasks.types import Example"),
    ],
)
def test_a_forbidden_import_is_detected(package: str, source: str) -> None:
    assert len(violations(package, source)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("train", "from epalm.cache.readers.open_reader import open_store\nimport torch"),
        ("tasks", "import json\nfrom epalm.tasks.types import Example"),
        ("cache", "from epalm.errors import StoreError\nfrom epalm import __version__"),
        ("demo", "from epalm.extract.cli import main"),
        ("model", '"""Read by epalm.train.trainer."""'),
    ],
)
def test_a_permitted_import_is_not_reported(package: str, source: str) -> None:
    assert violations(package, source) == []


@pytest.mark.parametrize(
    ("package", "library"),
    [
        (package, library)
        for package, libraries in sorted(MUST_NOT_IMPORT.items())
        for library in sorted(libraries)
        if package in {"epalm", "cache", "media"}
    ]
    + [("tasks", "torch"), ("tasks", "numpy")],
)
def test_importing_every_module_of_a_light_package_imports_no_heavy_library(
    package: str, library: str
) -> None:
    modules = ", ".join(module_name(package, file) for file in sources(package))
    script = f"import sys, {modules}; sys.exit({library!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["train", "evaluate"])
def test_stage_two_runs_where_no_encoder_library_is_installed(package: str) -> None:
    modules = ", ".join(module_name(package, file) for file in sources(package))
    absent = "import sys; sys.modules.update(dict.fromkeys(['timm', 'torchaudio', 'torchvision']))"
    subprocess.run([sys.executable, "-c", f"{absent}; import {modules}"], check=True, timeout=120)


def test_only_one_function_syncs_a_folder() -> None:
    """A second one would miss fixes of the first, e.g. for file systems without fsync."""
    own = [
        module_name(package, file)
        for package in sorted(PACKAGES)
        for file in sources(package)
        if re.search(r"os\.open\([^)]*os\.O_RDONLY\)", file.read_text(encoding="utf-8"))
    ]
    assert own == ["epalm.atomic_write"]
