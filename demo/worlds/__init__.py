"""Drawn images and clips and synthetic audio, with questions and captions about them."""
