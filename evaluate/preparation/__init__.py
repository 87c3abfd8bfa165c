"""Preparation of an evaluation: options, the run, its task and store, and how it answers."""
