"""Use of a trained run: answers and captions for new images, videos and audio clips."""
