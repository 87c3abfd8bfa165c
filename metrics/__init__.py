"""Metrics: scores of predictions against reference answers."""
