"""Checkpoints: trained tensors, run records, and checkpoints of the official implementation."""
