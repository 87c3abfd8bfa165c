"""The options of `epalm-extract`, its inputs, its plan, and the shards to encode."""
