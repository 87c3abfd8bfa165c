"""Decoding in worker processes that may crash without taking the extraction with them."""
