"""Several stores over the same samples, joined by key."""
