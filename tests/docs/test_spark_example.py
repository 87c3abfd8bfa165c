"""The Spark program of docs/how_to/many_machines.md fills a store on a local Spark."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from epalm.cache.store import Store
from epalm.extract.fill_store import run_options
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.plugins import TypedName
from tests.cache.helpers import file_contents
from tests.docs.pages import code_blocks, page_text
from tests.extract.engines.number_files import write_numbers
from tests.repository import ROOT

pytestmark = pytest.mark.slow

ENCODER = "tests.extract.engines.fast_encoder:fast"

COUNT, BROKEN = 3 * 512 - 100, 700
"""Samples of the dataset, in three shards; one cannot be decoded."""


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java runtime")
def test_the_program_of_the_page_makes_the_store_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="needs the extra `spark`")
    (tmp_path / "photos").mkdir()
    photos = write_numbers(tmp_path / "photos", COUNT, broken=BROKEN)
    (program,) = (
        block
        for _, block in code_blocks(page_text("how_to/many_machines.md"), "python")
        if "pyspark" in block
    )
    changes = {
        "--encoder vit-l16": f"--encoder {ENCODER} --workers 0 --device cpu",
        "/shared/photos.zarr": str(tmp_path / "spark.zarr"),
        "/shared/photos ": f"{photos} ",
        "TASKS = 16": "TASKS = 2",
    }
    for old, new in changes.items():
        assert old in program
        program = program.replace(old, new)
    (tmp_path / "program.py").write_text(program)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    result = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        cwd=ROOT,
        env={**os.environ, **settings, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    once = ExtractOptions(
        encoder=TypedName(ENCODER),
        dataset=str(photos),
        out=str(tmp_path / "once.zarr"),
        workers=0,
        device="cpu",
        quiet=True,
    )
    expected = run_options(once).store
    store = Store.open(tmp_path / "spark.zarr")
    assert store.spec.shards == 3
    assert file_contents(store) == file_contents(expected)
    assert list(store.commit_record(1).errors) == [f"{BROKEN}.png"]
