"""eP-ALM: adapt a frozen language model to images, video and audio, from cached features.

>>> import epalm
>>> model = epalm.load("runs/scenes")
>>> answer = model.answer("scene.png", "which shape is red?")

`extract`, `train` and `evaluate` are the commands as functions, `open_store` reads features,
`FeatureDataset` feeds them to a `DataLoader`, and `metrics` scores plain texts. Importing this
package imports none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epalm import metrics
    from epalm.api.batch_encoder import Encode
    from epalm.api.commands import evaluate, extract, train
    from epalm.api.feature_dataset import FeatureDataset
    from epalm.api.feature_store import FeatureStore, open_store
    from epalm.ask.answers import Answer
    from epalm.ask.run_model import Model, load

__all__ = [
    "Answer",
    "Encode",
    "FeatureDataset",
    "FeatureStore",
    "Model",
    "__version__",
    "evaluate",
    "extract",
    "load",
    "metrics",
    "open_store",
    "train",
]

__version__: str

PUBLIC = {
    "Answer": "epalm.ask.answers",
    "Encode": "epalm.api.batch_encoder",
    "FeatureDataset": "epalm.api.feature_dataset",
    "FeatureStore": "epalm.api.feature_store",
    "Model": "epalm.ask.run_model",
    "load": "epalm.ask.run_model",
    "open_store": "epalm.api.feature_store",
}
"""Public name -> its module, imported on first use."""

PACKAGES = ("evaluate", "extract", "metrics", "train")
"""Packages with public names; three of them can be called, see `epalm.callable_module`."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Look up a public name on first use."""
    if name == "__version__":  # importing the package metadata takes 50 ms
        from importlib.metadata import version

        return version("epalm")
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    if name in PACKAGES:
        return import_module(f"epalm.{name}")
    raise AttributeError(f"module 'epalm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
