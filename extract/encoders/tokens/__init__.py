"""Which tokens of an encoder are kept: their layout in the blocks, and the token policies."""
