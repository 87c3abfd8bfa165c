"""Editors and type checkers resolve the packages, in a checkout and in an editable install."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """\
from epalm.cache.store import Store
from epalm.evaluate.run_evaluation import evaluate
from epalm.extract.encoders.timm_vit import TimmEncoder
from epalm.model.epalm import EPALM
from epalm.train.run_training import train

count: int = Store.open("cache/coco_vitb16.zarr").spec.count
wrong: str = Store.open("cache/coco_vitb16.zarr").spec.count
"""
"""Used outside of the repository; its last line is wrong, which shows that types are known."""


def test_a_script_outside_of_the_repository_knows_modules_and_types(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "basic"}', encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    checked = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    output = checked.stdout
    assert "could not be resolved" not in output
    assert 'Type "int" is not assignable to declared type "str"' in output
    assert "1 error," in output
