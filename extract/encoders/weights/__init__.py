"""Weights of encoders: checkpoint files, timm models, Hugging Face folders."""
