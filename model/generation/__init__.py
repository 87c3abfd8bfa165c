"""Text generation after visual prefixes, and closed-vocabulary evaluation by log-likelihood."""
