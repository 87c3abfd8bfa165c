"""Reading the fields of a request's JSON object, with errors that name the field."""

from collections.abc import Mapping
from typing import Any

from epalm.serve.requests.api_errors import field_error
from epalm.untrusted.json_values import SURROGATE
from epalm.untrusted.quoted_values import quote


class Fields:
    """The fields of an object; null is the same as absent."""

    def __init__(self, values: object, path: str) -> None:
        """Wrap a parsed value.

        Args:
            values: the value, expected to be an object.
            path: path of the value in the request; empty for the request itself.

        Raises:
            ApiError: it is no object.
        """
        if not isinstance(values, Mapping):
            raise field_error(f"found {quote(values)}, expected an object", path or "body")
        self.values, self._path = values, path

    def path(self, name: str) -> str:
        """Path of a field in the request."""
        return f"{self._path}.{name}" if self._path else name

    def get(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """A value as it is; None if it is absent."""
        return self.values.get(name)

    def object(self, name: str) -> "Fields":
        """An object; an empty one if it is absent."""
        value = self.get(name)
        return Fields({} if value is None else value, self.path(name))

    def text(self, name: str) -> str | None:
        """A text without lone surrogates."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise field_error(f"found {quote(value)}, expected a string", self.path(name))
        if SURROGATE.search(value):
            raise field_error("found half of a surrogate pair", self.path(name))
        return value

    def flag(self, name: str) -> bool:
        """A boolean; false if it is absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise field_error(f"found {quote(value)}, expected true or false", self.path(name))
        return bool(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """An integer from `low` to `high`."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise field_error(
                f"found {quote(value)}, expected an integer from {low} to {high}", self.path(name)
            )
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A finite number from `low` to `high`."""
        value = self.get(name)
        if value is None:
            return None
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits or not low <= value <= high:  # neither NaN nor infinity is between
            raise field_error(
                f"found {quote(value)}, expected a number from {low:g} to {high:g}",
                self.path(name),
            )
        return float(value)
