"""From the options of `epalm-extract` to the list of shards that this process encodes."""
