"""Packages that are also functions: `epalm.train` is a package, and `epalm.train(...)` trains."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module that can be called; the function is imported on the first call."""

    function: tuple[str, str]

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the function
        """Call the module's function."""
        module, name = self.function
        return getattr(import_module(module), name)(*arguments, **named)


def make_callable(name: str, module: str, function: str) -> None:
    """Let calls of a package call a function.

    Args:
        name: name of the package.
        module: name of the function's module.
        function: name of the function.
    """
    package = sys.modules[name]
    package.__class__ = CallableModule
    package.function = (module, function)  # type: ignore[attr-defined]
