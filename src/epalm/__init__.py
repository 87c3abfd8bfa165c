"""eP-ALM: a frozen language model that perceives, trained from cached features."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("epalm")
