"""Extraction in a pipeline of Ray Data: `Encode` for `map_batches`, and a datasink for stores.

On a cluster without a pipeline of your own, use `epalm-extract --engine ray`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epalm.api.batch_encoder import Encode
    from epalm.api.store_datasink import StoreDatasink

__all__ = ["Encode", "StoreDatasink"]

PUBLIC = {"Encode": "epalm.api.batch_encoder", "StoreDatasink": "epalm.api.store_datasink"}
"""Public name -> its module, imported on first use."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Look up a public name on first use."""
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'epalm.ray' has no attribute {name!r}")
