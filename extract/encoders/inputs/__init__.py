"""The inputs of Hugging Face models: images, videos and audio, as each family takes them."""
