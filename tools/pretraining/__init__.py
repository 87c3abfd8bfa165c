"""Pretraining of the demo's micro models."""
