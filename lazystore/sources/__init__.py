"""Recordings of every kind behind one small protocol: `open_sources` is the door."""
