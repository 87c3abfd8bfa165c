"""Datasets, the tasks defined on them, and their examples."""

from epalm.tasks.types import Example, MediaItem, MediaSet, Prediction, Task

__all__ = ["Example", "MediaItem", "MediaSet", "Prediction", "Task"]
