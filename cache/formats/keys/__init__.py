"""Keys of a store without a Python object per key: packed bytes, and a table to look them up."""
