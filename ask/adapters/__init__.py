"""The trained runs that answer on one frozen language model."""
