"""Stage three: generate, score and report."""
