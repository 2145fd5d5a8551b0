"""Exact frames out of compressed packets: tables, a decoder that verifies itself, pixels.

Knows neither containers nor stores: both feed it packets.
"""
