"""Averages of runs that were trained from one start with different seeds."""
