"""Event recordings: one file a format, its words or datasets decoded by `kernels`."""
