"""Records of a store: committed shards, the media they were made from, and extraction runs."""
