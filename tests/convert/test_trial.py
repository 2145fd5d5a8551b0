"""Which codec and shuffle an array gets, and how events are laid out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import lazystore as ls
from lazystore.convert.trial import choose_shuffle, codec_of_preset
from lazystore.schema import Codec


def test_a_named_shuffle_stays_unless_another_is_much_smaller() -> None:
    """Bits of numbers that repeat do not repeat; of noise nothing is smaller, and what is named stays."""
    rng = np.random.default_rng(0)
    # Of a length that is no whole number of bytes of bits.
    repeated = np.tile(rng.integers(0, 640, 2003).astype(np.uint16), 16)
    assert choose_shuffle(Codec("zstd", 4, "bitshuffle"), [repeated]).codec.shuffle != "bitshuffle"
    noise = rng.integers(0, 600, 32_768).astype(np.uint16)
    for named in ("shuffle", "bitshuffle"):
        assert choose_shuffle(Codec("zstd", 4, named), [noise]).codec.shuffle == named


@pytest.mark.parametrize(
    ("preset", "chunk", "names"),
    [
        ("balanced", 32_768, {"t": "zstd", "x": "zstd", "y": "zstd", "p": "lz4"}),
        ("fast", 32_768, {"t": "lz4hc", "x": "lz4hc", "y": "lz4hc", "p": "lz4"}),
        ("small", 65_536, dict.fromkeys("txyp", "zstd")),
    ],
)
def test_columns_of_events_have_codecs_of_their_own(
    preset: str, chunk: int, names: dict[str, str], tmp_path: Path
) -> None:
    """And every one of them gives the values back, in plain zarr too."""
    rng = np.random.default_rng(1)
    n = 100_000
    columns = {
        "t": np.sort(rng.integers(0, 10**6, n)),
        "x": rng.integers(0, 64, n).astype(np.uint16),
        "y": rng.integers(0, 48, n).astype(np.uint16),
        "p": rng.integers(0, 2, n).astype(np.uint8),
    }
    np.savez(tmp_path / "rec.npz", **columns)
    ls.convert(tmp_path / "rec.npz", tmp_path / "s.zarr", codec=preset, source_options={"sensor": "64x48"})
    with ls.open(tmp_path / "s.zarr") as store:
        stream = store["rec"]
        window = stream.window_by_index(0, n)
        for name, values in columns.items():
            spec = stream.columns[name].spec
            assert (spec.codec.cname, spec.chunks) == (names[name], (chunk,))
            np.testing.assert_array_equal(getattr(window, name), values)
    group = zarr.open_group(tmp_path / "s.zarr", mode="r")
    for name, values in columns.items():
        np.testing.assert_array_equal(group[f"rec/{name}"][:], values)


def test_other_kinds_have_one_codec() -> None:
    """Fields, video and stacks; and columns that events do not have."""
    assert codec_of_preset("balanced") == codec_of_preset("balanced", "field", "x") == Codec("zstd", 3)
    assert codec_of_preset("fast", "events", "id") == Codec("lz4", 5)
