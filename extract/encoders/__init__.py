"""Frozen encoders: timm ViTs, Hugging Face models, and image encoders over video frames."""
