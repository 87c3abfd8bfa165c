"""Tests of `epalm.train.sweep`."""
