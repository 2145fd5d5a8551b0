"""Video kept as its packets."""

from __future__ import annotations

from benchmarks.layouts.rows import high, low
from benchmarks.tables import Column, Layout, Listing

VIDEO = Layout(
    "Video kept as its packets",
    "Recordings, and one made file a codec, frames as RGB, asked in turns. Of the ways to a frame, cv2's "
    "may give another one, see below.",
    (
        Listing(
            "Size, in sizes of the file",
            ("case",),
            (
                Column("frames", "frames"),
                Column("source MB", "source_mb"),
                Column("packets", "packets_of_source"),
                Column("store", "store_of_source"),
            ),
            goal=("packets_of_source", 1.02, "low"),
            heading="recording",
        ),
        Listing(
            "Conversion: the time of a remux with one decode, of that of lazystore",
            ("case",),
            (
                Column("seconds", "convert_s"),
                Column("remux and decode", "convert_ratio"),
                Column("by CPU time", "convert_cpu_ratio"),
                Column("and statistics by numpy", "convert_look_ratio"),
                Column("by CPU time", "convert_look_cpu_ratio"),
            ),
            goal=("convert_ratio", 0.85, "high"),
            heading="recording",
        ),
        Listing(
            "A frame anywhere, without a cache, ms",
            ("case",),
            (
                low("lazystore p50", "jump_ours_p50_ms"),
                low("p99", "jump_ours_p99_ms"),
                low("PyAV, seek p50", "jump_pyav_p50_ms"),
                low("p99", "jump_pyav_p99_ms"),
                low("cv2 p50", "jump_cv2_p50_ms"),
                low("p99", "jump_cv2_p99_ms"),
            ),
            heading="recording",
        ),
        Listing(
            "From first to last: frames/s of a bare decode, and lazystore's part of it",
            ("case",),
            (
                Column("bare /s", "play_bare_hz"),
                Column("64 MB cache", "play_64mb_ratio"),
                Column("by CPU time", "play_64mb_cpu_ratio"),
                Column("bare, all kept /s", "play_bare_kept_hz"),
                Column("all in the cache", "play_4gb_ratio"),
            ),
            goal=("play_64mb_ratio", 0.9, "high"),
            heading="recording",
        ),
        Listing(
            "From last to first, frames/s",
            ("case",),
            (
                high("lazystore", "reverse_hz"),
                high("PyAV, seek", "reverse_pyav_hz"),
                high("cv2", "reverse_cv2_hz"),
            ),
            heading="recording",
        ),
    ),
)

VIDEO_ERRORS = Layout(
    "Which frame one gets",
    "Wrong frames, and frames that were refused, of those asked for by number in random, reverse and strided "
    "order. Right is the frame that FFmpeg shows there in a decode from first to last.",
    (
        Listing(
            "",
            ("group", "case"),
            (
                Column("asked", "random_asked"),
                low("random: wrong", "random_wrong"),
                Column("refused", "random_refused"),
                low("reverse: wrong", "reverse_wrong"),
                Column("refused", "reverse_refused"),
                Column("strided: asked", "strided_asked"),
                low("wrong", "strided_wrong"),
                Column("refused", "strided_refused"),
                Column("", "cannot_open"),
            ),
            heading="file",
        ),
    ),
)
