"""Readers of small files that may come from strangers; they never run code."""
