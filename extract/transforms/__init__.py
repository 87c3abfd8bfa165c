"""Transforms of decoded images, videos and audio clips to encoder inputs, and augmentation."""
