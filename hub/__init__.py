"""Sharing of runs and stores: the model card, and transfers to and from the Hugging Face hub."""
