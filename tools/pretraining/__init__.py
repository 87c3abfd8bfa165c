"""Pretraining of the demo's small models."""
