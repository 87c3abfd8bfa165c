"""What packages and modules say they export, against what they hold."""

import ast
from importlib import import_module

import pytest

from tests.repository import PACKAGES, module_name, sources

MOST_EXPORTS = 12


def imports_anything(source: str) -> bool:
    """Whether a package imports something else than what makes it a function."""
    body = ast.parse(source).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return any(getattr(node, "module", "") != "epalm.callable_module" for node in imports)


def exported_names(source: str) -> list[str] | None:
    """The literal assigned to `__all__`, or None if there is none."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return list(ast.literal_eval(node.value))
    return None


EXPORTS = {
    module_name(package, file): names
    for package in PACKAGES
    for file in sources(package)
    if (names := exported_names(file.read_text(encoding="utf-8"))) is not None
}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_the_docstring_of_each_package_begins_with_one_line(package: str) -> None:
    source = (PACKAGES[package] / "__init__.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring
    assert len(docstring.split("\n\n")[0].splitlines()) == 1


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_that_imports_something_declares_its_exports(package: str) -> None:
    source = (PACKAGES[package] / "__init__.py").read_text(encoding="utf-8")
    assert imports_anything(source) == (exported_names(source) is not None)


@pytest.mark.parametrize("module", sorted(EXPORTS))
def test_exports_are_few_and_sorted_and_exist(module: str) -> None:
    names = EXPORTS[module]
    assert names == sorted(set(names))
    assert len(names) <= MOST_EXPORTS
    if module == "epalm.ray":
        pytest.importorskip("ray", reason="needs the extra `ray`")
    actual = import_module(module)
    assert [name for name in names if not hasattr(actual, name)] == []
