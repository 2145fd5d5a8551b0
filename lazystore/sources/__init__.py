"""Recordings of every kind behind one small protocol: `registry.open_sources` is the door.

`registry` holds the table of formats, `recognition` tells which one a file is in, one module a
format family reads it, and `selection`, `rows`, `casting`, `concat` and `geometry` are sources
around sources. Nothing here knows of stores.
"""
