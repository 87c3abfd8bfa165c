"""The frozen language model's forward pass: packed batches, injection points, losses, kernels."""
