"""Published datasets, one module per benchmark: read their annotation files."""
