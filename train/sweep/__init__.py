"""Sweeps: many adapters trained one after the other over one loaded language model."""
