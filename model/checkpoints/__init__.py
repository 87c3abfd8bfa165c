"""Reading and writing of trained tensors: adapters, run records, official checkpoints."""
