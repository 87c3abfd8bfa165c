"""Text generation from image prefixes: decoding, cached prefixes, closed-vocabulary ranking."""
