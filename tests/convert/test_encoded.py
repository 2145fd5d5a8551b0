"""A video kept as its packets: small, exact, and as good to read as pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import lazystore as ls
from lazystore.array import dask_adapter
from lazystore.cache import guard
from lazystore.convert import encoded_summary
from lazystore.convert import plan as plan_module
from lazystore.convert import run as run_module
from lazystore.errors import DamagedStoreError, UsageError
from lazystore.sources.video.recording import VideoSource
from lazystore.store import encoded_item

N_FRAMES, SIZE = 90, (64, 96)


def write_video(path: Path, codec: str = "libx264") -> NDArray[np.uint8]:
    """A moving gradient with B-frames; returns what a sequential decode gives, shape (time, y, x, 3)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for number in range(N_FRAMES):
            picture = np.stack([(x * 2 + number * 3) % 256, (y * 3 + number) % 256, x + y], axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    path = tmp_path_factory.mktemp("video") / "mouse.mp4"
    return path, write_video(path)


def test_frames_and_statistics_equal_those_of_pixels(video: Any, store_path: Path) -> None:
    """In any order every frame is that of a sequential decode, and so are ranges and sums."""
    path, frames = video
    ls.convert(path, store_path, codec="encoded", name="packets")
    ls.convert(path, store_path, codec="fast", name="pixels")
    with ls.open(store_path) as store:
        packets, pixels = store["packets"], store["pixels"]
        assert packets.shape == frames.shape
        for index in [89, 0, 45, 44, 43, 7, 88]:
            np.testing.assert_array_equal(packets[index], frames[index])
        np.testing.assert_array_equal(packets[::-7].load(), frames[::-7])
        assert packets.range() == pixels.range() == (frames.min(), frames.max())
        assert packets.range(percentile=(1, 99)) == tuple(np.percentile(frames, (1, 99)))
        for name in ("min", "max", "sum", "sum_squares", "valid_count"):
            mine = store.array_values("packets", f"stats/{name}")
            np.testing.assert_array_equal(mine, store.array_values("pixels", f"stats/{name}"))
        np.testing.assert_array_equal(packets.coords["time"], pixels.coords["time"])
        assert store.verify().ok


def test_the_rest_of_the_store_is_plain_zarr(video: Any, store_path: Path) -> None:
    """Plain xarray sees packets and times; lazystore's engine gives the frames as an array."""
    path, frames = video
    report = ls.convert(path, store_path, codec="encoded")
    assert report.items[0].shape == frames.shape
    with xr.open_datatree(store_path, engine="zarr") as plain:
        assert "data" not in plain["mouse"]
        assert plain["mouse/packets"].dtype == np.uint8
        assert plain["mouse"].sizes["time"] == N_FRAMES
    with xr.open_datatree(store_path, engine="lazystore") as tree:
        np.testing.assert_array_equal(tree["mouse/data"].isel(time=slice(10, 13)).values, frames[10:13])


def test_a_conversion_that_was_cut_short_is_resumed(
    video: Any, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets and statistics of finished tasks are kept; the store ends as an undisturbed one."""
    path, _ = video
    whole = store_path.with_name("whole.zarr")
    settings: dict[str, Any] = {"codec": "encoded", "chunks": 1024, "shards": 4096, "workers": 1}
    ls.convert(path, whole, **settings)
    done = []

    def stop(progress: run_module.Progress) -> None:
        done.append(progress.records)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.convert(path, store_path, **settings, progress=stop)
    report = ls.convert(path, store_path, **settings)
    assert report.items[0].tasks_resumed >= 2
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(store_path) for p in store_path.rglob("*") if p.is_file())
    assert all((whole / name).read_bytes() == (store_path / name).read_bytes() for name in files)


def test_any_number_of_decoders_writes_the_same_bytes(
    video: Any, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups are shared out to as many decoders as there are workers; nobody can tell afterwards."""
    path, _ = video
    monkeypatch.setattr(encoded_summary, "MIN_PIECE_FRAMES", 12)
    opened: list[int] = []
    twin = VideoSource.twin

    def counted(self: VideoSource, threads: int) -> VideoSource:
        opened.append(threads)
        return twin(self, threads)

    monkeypatch.setattr(VideoSource, "twin", counted)
    contents = []
    for workers in (1, 3):
        store = store_path.with_name(f"by-{workers}.zarr")
        ls.convert(path, store, workers=workers, time=(0.2, None), crop=(0, 40, 8, 88))
        contents.append({p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()})
    assert opened == [1, 1, 1]
    assert contents[0] == contents[1]


def test_dask_blocks_hold_bounded_memory_however_small_the_packets(
    video: Any, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One shard of packets stands for the whole clip; dask still reads it block by block."""
    frame_bytes = SIZE[0] * SIZE[1] * 3
    monkeypatch.setattr(encoded_item, "BLOCK_BYTES", 20 * frame_bytes)
    monkeypatch.setattr(dask_adapter, "BLOCK_BYTES", 20 * frame_bytes)
    path, frames = video
    ls.convert(path, store_path, codec="encoded", overview="none")
    with ls.open(store_path) as store, xr.open_datatree(store_path, engine="lazystore", chunks={}) as tree:
        blocks = [store["mouse"].to_dask(), tree["mouse/data"].data]
        assert [block.chunks[0] for block in blocks] == [(20, 20, 20, 20, 10)] * 2
        monkeypatch.setenv("LAZYSTORE_MEMORY_BYTES", str(25 * frame_bytes))
        monkeypatch.setattr(guard, "ALWAYS_FITS_BYTES", 0)
        for block in blocks:
            np.testing.assert_array_equal(block.max(axis=0).compute(), frames.max(axis=0))
        assert store["mouse"].range(percentile=(1, 99)) == tuple(np.percentile(frames, (1, 99)))


def test_damaged_packets_are_an_error_not_a_picture(video: Any, store_path: Path) -> None:
    """A flipped bit in the packets is found before it is decoded."""
    path, _ = video
    ls.convert(path, store_path, codec="encoded")
    shard = store_path / "mouse" / "packets" / "c" / "0"
    content = bytearray(shard.read_bytes())
    content[200] ^= 4
    shard.write_bytes(content)
    with ls.open(store_path) as store:
        with pytest.raises(DamagedStoreError):
            store["mouse"].load()
        assert not store.verify().ok


def test_only_video_is_encoded(store_path: Path) -> None:
    """An array has no packets."""
    with pytest.raises(UsageError, match="is for one video file"):
        ls.convert(np.zeros((3, 4, 5), np.uint8), store_path, codec="encoded")


@pytest.mark.parametrize(("decoded_bytes_a_task", "many"), [(1 << 34, False), (1 << 19, True)])
def test_packets_are_cut_only_where_decoding_them_takes_long(
    video: Any, store_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_bytes_a_task: int, many: bool
) -> None:
    """Groups of frames are decoded side by side within a shard, not across shards.

    A shard of the packets' size rounded down left their last bytes, and half of the frames, to another.
    """
    path, frames = video
    monkeypatch.setattr(plan_module, "BYTES_A_CHUNK", 1 << 10)
    monkeypatch.setattr(plan_module, "DECODED_BYTES_A_TASK", decoded_bytes_a_task)
    ls.convert(path, store_path, codec="encoded")
    files = [file for file in (store_path / "mouse/packets/c").iterdir() if file.is_file()]
    assert (len(files) > 1) is many
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["mouse"].load(), frames)
