"""Image, video and audio files to pixels and samples, under one policy of what may be opened."""
