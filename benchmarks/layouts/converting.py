"""Making stores, and what overviews and folders of images gain by it."""

from __future__ import annotations

from benchmarks.layouts.rows import group_is, has, low
from benchmarks.tables import Column, Layout, Listing

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
            "Milliseconds: ",
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
