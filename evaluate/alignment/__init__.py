"""Alignment of encoders and language models, measured without training."""
