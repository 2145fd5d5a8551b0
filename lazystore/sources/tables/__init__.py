"""Tracks, series, spikes and intervals: text tables and the files of trackers."""
