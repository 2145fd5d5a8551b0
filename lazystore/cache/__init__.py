"""Decoded chunks kept in memory: one byte budget a process, single flight, prefetch by playhead."""
