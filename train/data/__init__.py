"""Training data: examples joined with features, tokenized, batched and loaded."""
