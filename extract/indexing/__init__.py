"""The sample index of a dataset: what is read for it, and its samples as media items."""
