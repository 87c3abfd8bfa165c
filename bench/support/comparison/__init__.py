"""The ways of training that `bench.comparison` compares."""
