"""Store formats: how Zarr and HDF5 files of a store are laid out."""
