from pathlib import Path

import numpy as np

from epalm.system_memory import cgroup_free_bytes, peak_memory


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    outer, inner = tmp_path / "job", tmp_path / "job" / "step"
    group(outer, memory__max="1000", memory__current="700", memory__stat="inactive_file 50")
    group(inner, memory__max="max", memory__current="100", memory__stat="inactive_file 0")
    assert cgroup_free_bytes("0::/job/step\n", tmp_path) == [350]


def test_control_groups_of_the_first_version_count(tmp_path: Path) -> None:
    group(
        tmp_path / "memory" / "job",
        memory__limit_in_bytes="900",
        memory__usage_in_bytes="1000",
        memory__stat="inactive_file 1\ntotal_inactive_file 20",
    )
    assert cgroup_free_bytes("3:cpu:/\n2:memory:/job\n0::/\n", tmp_path) == [0]


def test_the_peak_grows_with_what_is_held_and_stays_when_it_is_freed() -> None:
    before = peak_memory()
    held = np.ones(before // 8 + 10_000_000)  # more than there was in all
    peak = peak_memory()
    assert peak >= held.nbytes
    del held
    assert peak_memory() >= peak
