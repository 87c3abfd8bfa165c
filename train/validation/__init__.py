"""Validation of the weights during training: scores, loss and image gain."""
