"""The feature store: written shard by shard, read by key."""
