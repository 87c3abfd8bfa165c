"""What is asked: media to encode, examples to answer, and the tasks that pose them."""
