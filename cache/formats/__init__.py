"""File formats of a store: Zarr and HDF5."""
