from pathlib import Path

import pytest

from epalm.entries import find_entry
from epalm.errors import UsageError

KNOWN = {"join": "os.path:join"}


def test_a_known_name_is_imported() -> None:
    assert find_entry("join", KNOWN, what="function")("a", "b") == "a/b"


def test_a_module_of_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_entries.py").write_text("answer = 42\n")
    monkeypatch.chdir(tmp_path)
    assert find_entry("my_own_entries:answer", KNOWN, what="number") == 42


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"is no function \(known are join\): did you mean join\?"):
        find_entry("jion", KNOWN, what="function")


@pytest.mark.parametrize("name", ["other", "os.path:joined", "no_such_module:x", "", ":x"])
def test_anything_else_is_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(UsageError, match=r"is no function \(known are join\)"):
        find_entry(name, KNOWN, what="function")
