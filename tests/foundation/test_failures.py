"""What a command says about exceptions of other libraries that a user can repair."""

import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

import pytest

from epalm.errors import ModelError, UsageError
from epalm.failures import explained

SYMBOL = "/lib/libtorchaudio.so: undefined symbol: torch_library_impl"


@pytest.fixture
def failed_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Exception]:
    """What importing a package raises whose only module has the given text."""

    def fail(package: str, text: str) -> Exception:
        for name in [one for one in sys.modules if one.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(Exception, match=r".") as caught:
            import_module(package)
        return caught.value

    return fail


@pytest.mark.parametrize(
    ("package", "raised"),
    [
        ("torchaudio", f"OSError('{SYMBOL}')"),
        ("torchaudio", f"ImportError('{SYMBOL}')"),
        ("torchvision", "RuntimeError('operator torchvision::nms does not exist')"),
    ],
)
def test_a_package_that_does_not_load_with_torch_is_one_line_with_both_versions(
    failed_import: Callable[..., Exception], package: str, raised: str
) -> None:
    actual = explained(failed_import(package, f"raise {raised}"))
    assert actual is not None
    message, code = actual
    assert code == UsageError.exit_code == 2
    versions = f"{package} {metadata.version(package)} does not load with torch "
    assert message.startswith(versions + metadata.version("torch"))
    assert raised.split("'")[1] in message
    assert "`pip install -c constraints.txt .`" in message


def test_it_is_found_below_the_error_that_another_library_makes_of_it(
    failed_import: Callable[..., Exception],
) -> None:
    wrapped = ModelError("no language model could be loaded")
    wrapped.__cause__ = failed_import("torchaudio", f"raise OSError('{SYMBOL}')")
    actual = explained(wrapped)
    assert actual is not None
    assert actual[0].startswith("torchaudio ")
    assert actual[1] == 2


def test_a_package_that_itself_lacks_another_is_no_mismatch(
    failed_import: Callable[..., Exception],
) -> None:
    assert explained(failed_import("torchvision", "import surely_absent")) is None


def test_an_error_of_the_same_kind_elsewhere_stays_what_it_is(
    failed_import: Callable[..., Exception],
) -> None:
    assert explained(failed_import("another", f"raise OSError('{SYMBOL}')")) is None
    assert explained(ModelError("a message")) == ("a message", 1)
