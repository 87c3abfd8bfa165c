"""The embedded demo: drawn scenes and micro models that come with the package."""
