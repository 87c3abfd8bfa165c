"""Generated images, videos and audio clips, with questions and captions about them."""
