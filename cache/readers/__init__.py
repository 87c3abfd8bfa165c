"""Readers of features: on disk, in memory, or block-shuffled, in the order of an epoch."""
