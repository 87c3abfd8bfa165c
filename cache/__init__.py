"""The feature store: whole shards in, rows by key out."""
