"""eP-ALM: a frozen language model that perceives, trained from cached features."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is read: importing the metadata takes 50 ms."""
    if name != "__version__":
        raise AttributeError(f"module 'epalm' has no attribute {name!r}")
    from importlib.metadata import version

    return version("epalm")
