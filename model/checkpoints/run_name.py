"""The names that runs may have."""

import os
from unicodedata import category

NAME_BYTES = 255
"""Largest length of a file name on Linux and macOS."""


def is_run_name(name: str) -> bool:
    """Whether a run's folder can have a name: no slash or control character, and not too long."""
    controls = any(category(letter) in ("Cc", "Cs") for letter in name)
    if name in ("", ".", "..") or "/" in name or controls:
        return False
    return len(os.fsencode(name)) <= NAME_BYTES
