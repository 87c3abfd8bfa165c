"""Decoding in worker processes; a crash of a decoder does not end the extraction."""
