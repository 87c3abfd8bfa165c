"""Storage of files, local or on any fsspec file system: whole files, written atomically."""
