"""Arrays in files: NumPy, HDF5, NetCDF and Zarr, as fields, stacks and series."""
