"""Estimates before training: memory, and a dry run."""
