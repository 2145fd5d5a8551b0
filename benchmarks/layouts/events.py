"""Event recordings."""

from __future__ import annotations

from benchmarks.layouts.rows import by_events, case_starts, group_is, low
from benchmarks.tables import Column, Layout, Listing

KERNELS, FRAMES = ("numpy: ", "loop: "), ("frame: ", "filter: ")

EVENTS = Layout(
    "Event recordings",
    "Median ms, by the number of events in the recording.",
    (
        by_events("Opening and windows, ms", lambda row: not case_starts(*KERNELS, *FRAMES)(row)),
        by_events("Frames and filters, ms", case_starts(*FRAMES)),
        by_events("Compiled loops beside numpy, ms", case_starts(*KERNELS)),
    ),
)

EVENTS_SCALE = Layout(
    "Event recordings of any length",
    "A real recording again and again, in Prophesee RAW and in HDF5 (evio's layout, gzip 1), each length "
    "converted in a process of its own, which imports what it needs in that time; beside the whole rate "
    "the seconds of the shortest file, 0.5 million events, and the rate of the events beyond it. Cold: "
    "nothing of the window is decoded yet, in a stream that has answered before; the files are in the "
    "page cache. Then one HDF5 file beside evlib, which loads all events into memory, and six recordings "
    "opened one after the other, each to its first picture.",
    (
        Listing(
            "",
            ("case", "events"),
            (
                Column("million/s", "convert_mev_per_s"),
                Column("shortest, s", "shortest_s"),
                Column("beyond it, million/s", "further_mev_per_s"),
                Column("peak MB", "peak_rss_mb"),
                Column("bytes/event", "bytes_per_event"),
                Column("open ms", "open_ms"),
                Column("cold window ms", "cold_window_ms"),
                Column("best", "cold_window_best_ms"),
                Column("warm ms", "warm_window_ms"),
                Column("frame ms", "frame_ms"),
            ),
            group_is("length"),
        ),
        Listing(
            "One HDF5 file",
            ("case", "events"),
            (
                Column("convert s", "convert_s"),
                Column("first open, with imports, ms", "open_with_imports_ms"),
                low("open ms", "open_ms"),
                low("first window ms", "window_1_ms"),
                low("tenth window ms", "window_10_ms"),
                low("peak MB", "rss_mb"),
            ),
            group_is("peer"),
        ),
        Listing(
            "Six recordings in turn",
            ("case", "events"),
            (
                Column("very first ms", "very_first_ms"),
                Column("slowest other ms", "slowest_other_ms"),
                Column("peak MB", "rss_mb"),
            ),
            group_is("six"),
        ),
    ),
)
