"""Readers of annotation files; every value is checked, and memory is bounded."""
