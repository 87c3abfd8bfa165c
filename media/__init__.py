"""Decoders of image, video and audio files; one policy decides which formats may be opened."""
