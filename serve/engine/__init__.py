"""Decoding, encoding and answering of requests, in batches."""
