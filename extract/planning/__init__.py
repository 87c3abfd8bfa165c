"""The options of `epalm-extract`, its inputs, its plan, the shards to encode, and its result."""
