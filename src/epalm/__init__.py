"""eP-ALM: adapt a frozen language model to images, video and audio, from cached features."""

__version__: str


def __getattr__(name: str) -> str:
    """Look up `__version__` on first use: importing the package metadata takes 50 ms."""
    if name != "__version__":
        raise AttributeError(f"module 'epalm' has no attribute {name!r}")
    from importlib.metadata import version

    return version("epalm")
