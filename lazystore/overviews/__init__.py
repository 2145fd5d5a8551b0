"""Overviews along time: bins of 2^k frames with what is exact about each, and small pictures."""
