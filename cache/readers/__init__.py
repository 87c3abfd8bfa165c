"""Readers of features: from memory, from disk, or block-shuffled in the order of an epoch."""
