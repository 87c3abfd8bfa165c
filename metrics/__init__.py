"""Metrics: predictions against references."""
