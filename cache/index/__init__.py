"""The sample index: keys and locations of all samples, memory-mapped and looked up by hash."""
