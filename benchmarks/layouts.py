"""How the page of results shows each benchmark; one without a layout is shown number by number."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tables import Better, Column, Layout, Listing, Pivot, Row

type Where = Callable[[Row], bool]


def group_is(name: str) -> Where:
    """Rows of this group."""
    return lambda row: row.get("group") == name


def has(*keys: str) -> Where:
    """Rows that have all these numbers."""
    return lambda row: all(key in row for key in keys)


def case_starts(*starts: str) -> Where:
    """Rows whose case begins so."""
    return lambda row: str(row.get("case", "")).startswith(starts)


def low(heading: str, value: str) -> Column:
    """A number of which less is better."""
    return Column(heading, value, "low")


def high(heading: str, value: str) -> Column:
    """A number of which more is better."""
    return Column(heading, value, "high")


def ways(title: str, value: str, better: Better, where: Where) -> Pivot:
    """A line a way, a column a movie or a path."""
    return Pivot(title, ("case",), ("group",), Column("", value, better), where)


def by_events(title: str, where: Where) -> Pivot:
    """A line a case, a column a length of recording."""
    return Pivot(title, ("case",), ("events",), Column("", "median_ms"), where, heading="events")


SCRUBBED = has("p99_ms", "max_ms")
KERNELS, FRAMES = ("numpy: ", "loop: "), ("frame: ", "filter: ")
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

CONVERT = Layout(
    "Converting",
    "Beside what the codec alone needs on all cores for the same values (decoder and codec for a video), and "
    "evlib, which only loads events into memory.",
    (
        Listing(
            "",
            ("what",),
            (
                Column("seconds", "seconds"),
                Column("rate", "rate"),
                Column("beside", "bound"),
                Column("ratio", "ratio"),
                Column("by CPU time", "cpu_ratio"),
                Column("goal", "goal"),
                Column("RSS, MB", "max_rss_mb"),
            ),
            goal=("ratio", "goal", "high"),
        ),
    ),
)

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
    "converted in a process of its own, which imports what it needs in that time; beside the whole rate the "
    "seconds of the shortest file, 0.5 million events, and the rate of the events beyond it. Cold: nothing "
    "of the window is decoded yet, in a stream that has answered before. Then one HDF5 file beside evlib, "
    "which loads all events into memory, and six recordings opened one after the other, each to its first "
    "picture.",
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

VIDEO = Layout(
    "Video kept as its packets",
    "Recordings, and one made file a codec, frames as RGB, asked in turns. Of the ways to a frame, cv2's "
    "may give another one, see below.",
    (
        Listing(
            "Size and conversion: ratios to the file, and of a remux with one decode to the conversion",
            ("case",),
            (
                Column("frames", "frames"),
                Column("source MB", "source_mb"),
                Column("packets/file", "packets_of_source"),
                Column("store/file", "store_of_source"),
                Column("speed", "convert_ratio"),
                Column("speed by CPU time", "convert_cpu_ratio"),
            ),
            goal=("packets_of_source", 1.02, "low"),
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

IMAGES = Layout(
    "A folder of 20,000 pictures",
    "PNG files of 200 x 160 pixels, three of them damaged: read into one numpy array on all cores, as people "
    "do who then work in RAM, or converted once. The array has zeros where a picture is damaged; lazystore "
    "names them. "
    '"First" is from nothing to the first picture, "part" the mean up to the first damaged one.',
    (
        Listing(
            "",
            ("dtype", "what"),
            (
                Column("converting, s", "convert_s"),
                Column("first, s", "first_s"),
                Column("mean of all, s", "mean_s"),
                Column("mean of a part, s", "part_mean_s"),
                Column("RSS, MB", "max_rss_mb"),
                Column("damaged, found", "lost"),
                Column("on disk, MB", "stored_mb"),
            ),
        ),
    ),
)

REDUCE = Layout(
    "Reductions over time",
    "A grey video of 20,000 frames of 320 x 240 pixels: mean, extremes and std of every pixel over ranges of "
    "frames. Sums and extremes are the same bits as numpy's on the array in RAM, mean and std within 1e-12. "
    '"First" is a store opened anew. The bare decode is pread, crc32c and codec of the chunks that have to '
    "be read, the bare loop adds up frames that are in RAM, both on every core; the goal is a fifth more "
    "than the two, or twice numpy in RAM where that is more.",
    (
        Listing(
            "Milliseconds",
            ("case",),
            (
                low("lazystore, first", "first_ms"),
                low("lazystore, again", "again_ms"),
                low("numpy in RAM", "numpy_ms"),
                low("numpy, memmap", "memmap_ms"),
                low("xarray, dask", "dask_ms"),
                Column("frames", "frames"),
            ),
            where=has("again_ms"),
            split="group",
            heading="reduction",
        ),
        Listing(
            "Off the borders of bins, against the least that the partial frames cost, ms",
            ("group", "case"),
            (
                Column("partial frames", "partial_frames"),
                Column("lazystore", "again_ms"),
                Column("bare decode", "decode_ms"),
                Column("bare loop", "loop_ms"),
                Column("to their sum", "bound_ratio"),
                Column("by processor time", "cpu_ratio"),
            ),
            where=has("partial_frames", "bound_ms"),
            goal=("bound_ratio", 1.2, "low"),
            heading="reduction",
        ),
        Listing(
            "The whole video without overviews, ms",
            ("case",),
            (
                Column("pixels", "without_ms"),
                Column("packets", "encoded_ms"),
                Column("numpy in RAM", "numpy_ms"),
            ),
            where=has("without_ms"),
            heading="reduction",
        ),
        Listing(
            "Without overviews, by type and codec, ms",
            ("case",),
            (
                Column("lazystore", "ours_ms"),
                Column("numpy in RAM", "numpy_ms"),
                Column("bare decode", "decode_ms"),
                Column("bare loop", "loop_ms"),
                Column("to numpy", "numpy_ratio"),
                Column("to the bare two", "bound_ratio"),
                Column("by processor time", "cpu_ratio"),
            ),
            where=group_is("without overviews"),
            goal=("of_goal", 1.0, "low"),
            heading="type, codec, reduction",
        ),
        Listing(
            "What overviews cost",
            ("case",),
            (
                Column("conversion, s", "seconds"),
                Column("to none", "seconds_ratio"),
                Column("store, bytes", "store_bytes", digits=10),
                Column("overviews, bytes", "overview_bytes", digits=10),
                Column("share of the rest", "overview_share"),
            ),
            where=group_is("conversion"),
            heading="store",
        ),
    ),
)

LAYOUTS = {
    "playback": PLAYBACK,
    "renderer": RENDERER,
    "read": READ,
    "cache": CACHE,
    "memory": MEMORY,
    "remote": REMOTE,
    "convert": CONVERT,
    "video": VIDEO,
    "reduce": REDUCE,
    "images": IMAGES,
    "video_errors": VIDEO_ERRORS,
    "events": EVENTS,
    "events_scale": EVENTS_SCALE,
}
