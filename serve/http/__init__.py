"""The HTTP side: requests, replies, errors, limits."""
