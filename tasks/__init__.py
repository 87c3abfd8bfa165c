"""What is asked: media to encode, examples to answer, and the tasks that pose them."""

from epalm.tasks.types import Example, MediaItem, MediaSet, Prediction, Task

__all__ = ["Example", "MediaItem", "MediaSet", "Prediction", "Task"]
