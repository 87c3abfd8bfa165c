"""The language model's forward pass: packed batches, injection, attention, losses, kernels."""
