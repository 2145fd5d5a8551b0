"""A damaged recording: what is lost, what may be made up, and which packets did it, are on record."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.convert import run as run_module
from lazystore.convert.damage import Damage
from tests.sources.video_files import X264_OPEN_GOP, break_packet, decode_in_order, packets_of, write_video

KEYS = ("missing", "doubtful", "broken_packets")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty frames in groups of twelve; two packets are zeros, the rest of their groups may refer to them."""
    path = write_video(tmp_path_factory.mktemp("video") / "mouse.mp4", count=60, size=(64, 64))
    return break_packet(break_packet(path, 15), 40)


def recorded(store: Any, name: str) -> dict[str, Any]:
    attributes = store[name].attrs["lazystore"]
    return {key: attributes[key] for key in KEYS}


def test_packets_and_pixels_say_the_same(damaged: Path, store_path: Path) -> None:
    """Both list the same frames and packets; what is not listed is what an undamaged file gives."""
    items = [
        ls.convert(damaged, store_path, name=codec, codec=codec).items[0] for codec in ("encoded", "fast")
    ]
    assert [item.missing_records for item in items] == [items[0].missing_records] * 2
    with ls.open(store_path) as store:
        assert recorded(store, "encoded") == recorded(store, "fast")
        damage = Damage.of_attributes(store["encoded"].attrs["lazystore"])
        assert damage.broken_packets == (15, 40)
        assert items[0].missing_records == len(damage.missing) > 0
        assert not set(damage.missing) & set(damage.doubtful)
        for item, name in zip(items, ("encoded", "fast"), strict=True):
            assert sum("packets are broken, the first is 15" in line for line in item.problems) == 1
            assert sum("could not be read from the source" in line for line in item.problems) == 1
            assert sum("may be made up in parts" in line for line in item.problems) == bool(damage.doubtful)
            assert list(store[name].missing_frames) == list(damage.missing)
        whole = write_video(damaged.with_name("whole.mp4"), count=60, size=(64, 64))
        _, frames = decode_in_order(whole, pix_fmt="rgb24")
        for index in set(range(60)) - set(damage.missing) - set(damage.doubtful):
            np.testing.assert_array_equal(store["encoded"][index], frames[index])


def test_made_up_pictures_do_not_depend_on_where_a_read_begins(tmp_path: Path, store_path: Path) -> None:
    """Open groups: a first look at what follows the damage gives what the conversion saw of it."""
    path = write_video(tmp_path / "mouse.mp4", options=X264_OPEN_GOP)
    position, size, _ = packets_of(path)[22]  # shown before a keyframe that is coded before it
    data = bytearray(path.read_bytes())
    data[position + 8 : position + size] = random.Random(2).randbytes(size - 8)
    path.write_bytes(data)
    ls.convert(path, store_path, name="encoded")
    ls.convert(path, store_path, name="fast", codec="fast")
    with ls.open(store_path) as store:
        assert 30 in store["fast"].doubtful_frames
        np.testing.assert_array_equal(store["encoded"][30], store["fast"][30])


SETTINGS: dict[str, dict[str, Any]] = {
    "encoded": {"codec": "encoded", "chunks": 256, "shards": 512},
    "fast": {"codec": "fast", "chunks": 3, "shards": 6},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_damage_is_resumed_with_the_shards(damaged: Path, store_path: Path, settings: dict[str, Any]) -> None:
    """Cut short anywhere, the item says what an undisturbed conversion says."""
    whole = store_path.with_name("whole.zarr")
    ls.convert(damaged, whole, workers=1, **settings)
    done = []

    def stop(progress: run_module.Progress) -> None:
        done.append(progress.records)
        if len(done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.convert(damaged, store_path, workers=1, progress=stop, **settings)
    assert ls.convert(damaged, store_path, workers=1, **settings).items[0].tasks_resumed >= 3
    assert (whole / "zarr.json").read_bytes() == (store_path / "zarr.json").read_bytes()


def test_parts_and_pixels_of_it_count_their_own(damaged: Path, store_path: Path) -> None:
    """Frames are counted anew in a part, once each, and no line stands twice."""
    ls.convert(damaged, store_path, name="whole")
    ls.convert(damaged, store_path, name="part", time=(0.4, None), every=2)
    ls.materialize(store_path, "whole", name="pixels", time=(0.4, None))
    with ls.open(store_path) as store:
        damage = Damage.of_attributes(store["whole"].attrs["lazystore"])
        part = Damage.of_attributes(store["part"].attrs["lazystore"])
        pixels = Damage.of_attributes(store["pixels"].attrs["lazystore"])
        for key in ("missing", "doubtful"):
            late = [index - 10 for index in getattr(damage, key) if index >= 10]
            assert list(getattr(pixels, key)) == late
            assert list(getattr(part, key)) == [index // 2 for index in late if index % 2 == 0]
            for name, known in (("whole", damage), ("part", part), ("pixels", pixels)):
                assert getattr(store[name], f"{key}_frames").tolist() == list(getattr(known, key))
        assert damage.doubtful
        assert (store["whole"][10:].doubtful_frames + 10).tolist() == [
            index for index in damage.doubtful if index >= 10
        ]
        lines = store["pixels"].attrs["lazystore"]["problems"]
        assert len(lines) == len(set(lines)) == len(store["whole"].attrs["lazystore"]["problems"]) - 1


def test_nothing_is_said_where_nothing_is_wrong(tmp_path: Path, store_path: Path) -> None:
    """A sound file has none of these entries."""
    ls.convert(write_video(tmp_path / "mouse.mp4"), store_path)
    with ls.open(store_path) as store:
        attributes = store["mouse"].attrs["lazystore"]
        assert not set(KEYS) & set(attributes)
        assert attributes["problems"] == []
