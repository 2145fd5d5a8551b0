"""Video files: their packets, which frames these show, and frames as arrays."""
