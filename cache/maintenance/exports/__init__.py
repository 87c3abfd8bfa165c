"""Copies of a store in the file formats of other libraries."""
