"""Readers of large inputs for the sample index: keys and locations, streamed in bounded memory."""
