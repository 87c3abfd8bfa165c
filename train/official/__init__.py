"""Import of official checkpoints as runs."""
