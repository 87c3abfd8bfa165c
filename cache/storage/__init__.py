"""Files of a store in a local folder or on any fsspec file system, written atomically."""
