"""The one JSON document that a command with --json prints to standard output."""

import json
import math
import os
import sys
from typing import Any

from epalm.options import JSON_OPTION

ENDINGS = {2: "UsageError"}
"""Exit codes of a command line that typer ends -> type of the error in the document."""


class JsonDocument:
    """The document of the running command.

    Attributes:
        printed: whether the command has printed it.
    """

    printed = False

    def line(self, values: object) -> str:
        """The values as one line of JSON, to be printed; NaN and infinity become null."""
        self.printed = True
        return json.dumps(_finite(values), ensure_ascii=False, allow_nan=False)

    def missing(self) -> bool:
        """Whether the command was to print JSON and has not; of several processes, rank 0 is."""
        leads = os.environ.get("RANK", "0") == "0"
        return JSON_OPTION in sys.argv[1:] and leads and not self.printed


def error_document(message: str, kind: str, code: int) -> dict[str, object]:
    """What a command prints that ends with an error.

    Args:
        message: the message that standard error has, in one line.
        kind: name of the exception's class, see `epalm.errors`.
        code: exit code.
    """
    return {"error": {"type": kind, "message": message, "exit_code": code}}


def _finite(values: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
