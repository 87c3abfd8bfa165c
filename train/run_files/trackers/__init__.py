"""Trackers of experiments: TensorBoard, Weights & Biases and trackio."""
