"""Training configuration: recipes, their files and ranges, and checks before training."""
