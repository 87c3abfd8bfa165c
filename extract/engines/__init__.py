"""Extraction by several processes that an engine starts, keeps warm and replaces."""
