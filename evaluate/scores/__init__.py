"""Scores of predictions: metrics by group, calibration, result files and submissions."""
