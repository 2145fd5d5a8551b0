"""Playing and reading frames: fields, stores on disk and far away, the cache."""

from __future__ import annotations

from benchmarks.layouts.rows import group_is, has, high, low, ways
from benchmarks.tables import Column, Layout, Listing, Pivot

SCRUBBED = has("p99_ms", "max_ms")
PLAYED = (
    Column("median ms", "p50_ms"),
    Column("p99 ms", "p99_ms"),
    Column("longest ms", "max_ms"),
    Column("stalls", "stalls"),
)


PLAYBACK = Layout(
    "Scrubbing fields",
    'Movies of place fields, read in ten ways. "values" gives the numbers of a frame, "RGB" paints it. '
    "np.load and neurospatial in RAM hold the whole movie; the caches of lazystore and dask may hold 64 MB.",
    (
        ways("Open and show the first frame, ms", "open_and_first_ms", "low", has("open_and_first_ms")),
        ways("A frame at random, median, ms", "random_p50_ms", "low", has("random_p50_ms")),
        ways("A frame at random, 99th percentile, ms", "random_p99_ms", "low", has("random_p99_ms")),
        ways("Frames in order, frames/s", "sequential_frames_per_s", "high", has("sequential_frames_per_s")),
        ways("Memory beyond the start, MB", "rss_over_start_mb", "low", has("open_and_first_ms")),
        ways("Scrubbing the longest movie, 99th percentile of the waits, ms", "p99_ms", "low", SCRUBBED),
        ways("The same, waits longer than a frame's time", "stalls", "low", SCRUBBED),
        ways("The same, memory beyond the start, MB", "rss_over_start_mb", "low", SCRUBBED),
        ways("In a loop, without a clock, frames/s", "frames_per_s", "high", has("frames_per_s", "laps")),
    ),
)

VIEWER = Layout(
    "The viewer",
    "`ls.view` beside plain napari on the same pictures, in windows that OpenGL draws in software. Plain "
    "napari has the frames in memory, or reads the pixel store through `xr.open_zarr` and dask. A picture "
    "counts once it is drawn; after a jump the first one may be a small picture of that time, until the "
    "frame is there.",
    (
        Listing(
            "",
            ("case",),
            (
                low("open ms", "open_ms"),
                low("step ms", "step_p50_ms"),
                low("p99 ms", "step_p99_ms"),
                low("jump, anything ms", "anything_p50_ms"),
                low("p99 ms", "anything_p99_ms"),
                low("jump, exact ms", "exact_p50_ms"),
                low("p99 ms", "exact_p99_ms"),
                low("memory beyond the start MB", "growth_mb"),
            ),
            split="group",
        ),
    ),
)

RENDERER = Layout(
    "LazyFieldRenderer beside neurospatial's",
    "The same calls on the same fields in memory, best of several.",
    (
        Listing(
            "µs a call, float32",
            ("case", "n_bins"),
            (
                low("lazystore", "ours.best_us"),
                low("neurospatial", "neurospatial.best_us"),
                Column("ratio", "ratio"),
            ),
            lambda row: row.get("dtype") == "f4" or "uncompiled" in row["case"],
            across=True,
            heading="case, bins",
        ),
        Pivot(
            "All dtypes: lazystore's time over neurospatial's",
            ("case",),
            ("n_bins", "dtype"),
            Column("", "ratio"),
        ),
    ),
)

READ = Layout(
    "Reading from a local disk",
    "A frame of a store beside the least that can be done for it (read, checksum, decode) and beside other "
    "readers of the same file, page cache warm. np.memmap reads frames that were stored as they are.",
    (
        Listing(
            "A frame at random, µs",
            ("movie", "codec"),
            (
                low("lazystore", "us.ours"),
                Column("the least", "us.bare"),
                Column("decoding alone", "us.decode"),
                low("np.memmap", "us.memmap"),
                low("zarr-python", "us.zarr-python"),
                low("tensorstore", "us.tensorstore"),
                Column("of the least", "over_bare"),
            ),
            lambda row: row.get("case") == "random",
            across=True,
            goal=("over_bare", 1.15, "low"),
            heading="movie, codec",
        ),
        Listing(
            "The whole movie in order, MB/s",
            ("movie", "codec"),
            (
                high("lazystore", "mb_s.ours"),
                high("codec alone, all cores", "mb_s.codec"),
                high("np.memmap", "mb_s.memmap"),
                Column("of the codec", "of_codec"),
                Column("by CPU time", "of_codec_by_cpu"),
            ),
            lambda row: row.get("case") == "sequential",
            across=True,
            goal=("of_codec", 0.8, "high"),
            heading="movie, codec",
        ),
    ),
)

CACHE = Layout(
    "The chunk cache",
    "What it costs, what it keeps, and what playing a slow store is like with and without reading ahead.",
    (
        Listing("A chunk that is there", ("case",), (Column("µs", "us"),), group_is("hit")),
        Listing(
            "Hit rates with room for a part of the movie",
            ("case",),
            (high("lazystore", "ours"), high("LRU", "lru"), high("best possible", "best possible")),
            group_is("hit rate"),
            across=True,
            heading="path",
        ),
        Listing(
            "A store that answers late",
            ("case",),
            (*PLAYED, Column("requests", "requests")),
            group_is("slow store"),
        ),
        Listing(
            "1 GB of fields through a cache of 64 MB",
            ("case",),
            (
                *PLAYED,
                Column("frames/s", "frames_per_s"),
                Column("hit rate", "hit_rate"),
                Column("growth, MB", "rss_over_start_bytes", scale=1e-6),
            ),
            group_is("store"),
        ),
        Listing(
            "Many threads at once, of the budget",
            ("case",),
            (Column("held at most", "most_held_over_budget"), Column("growth", "rss_growth_over_budget")),
            group_is("stress"),
        ),
    ),
)

MEMORY = Layout(
    "Memory beside the cache's budget",
    "Resident memory of a process that reads a movie larger than its cache. What is beyond the start and the "
    "budget are threads, the codec's working memory and what is being read.",
    (
        Listing(
            "",
            ("case",),
            (
                Column("budget MB", "budget_mb"),
                Column("start MB", "start_mb"),
                Column("peak MB", "peak_mb"),
                Column("beyond MB", "beyond_mb"),
                Column("grown over budget", "grown_over_budget"),
                Column("hit rate", "hit_rate"),
            ),
        ),
    ),
)

REMOTE = Layout(
    "A store 50 ms away",
    "An S3 server behind a proxy that answers each request after 50 ms. zarr-python reads through obstore; "
    "dask slices as napari does, with napari's own settings. A stall is a frame that was waited for longer "
    "than its 33 ms, after the first second of playing; the worst round counts.",
    (
        Listing(
            "",
            ("case",),
            (
                low("open ms", "open_ms"),
                Column("requests", "open_requests"),
                low("first frame ms", "first_frame_ms"),
                Column("requests", "first_frame_requests"),
                low("stalls", "stalls"),
                Column("of frames", "frames_settled"),
                low("p99 ms", "p99_ms"),
                high("frames/s", "played_fps"),
                low("jump ms", "jump_ms"),
                Column("requests", "jump_requests"),
            ),
            has("first_frame_ms", "jump_ms"),
            split="group",
        ),
        Listing(
            "",
            ("case",),
            (
                low("open ms", "open_ms"),
                Column("requests", "open_requests"),
                low("window of 50,000 ms", "first_window_ms"),
                Column("requests", "first_window_requests"),
                low("again ms", "again_ms"),
                low("another ms", "far_window_ms"),
                Column("requests", "far_window_requests"),
            ),
            has("first_window_ms"),
            split="group",
        ),
    ),
)
