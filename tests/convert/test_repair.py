"""Damaged files that are made again, byte for byte, from what a store was made of."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.cli import main
from lazystore.convert.correct import correct
from lazystore.errors import StoreError, UsageError
from lazystore.geometry import Geometry
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify
from tests.samples import SAMPLES

type Files = dict[str, bytes]
SOURCES = (
    "fields.npy",
    "mouse.mp4",
    "drone.h5",
    "cells.tif",
    "track.csv",
    "spikes.csv",
    "part1.npy",
    "part2.npy",
)


def files_of(path: Path) -> Files:
    return {
        str(file.relative_to(path)).replace(os.sep, "/"): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def make_sources(folder: Path) -> None:
    for name, make in SAMPLES.items():
        make(folder / name)
    seconds = np.linspace(0, 9, 300)
    rows = "".join(f"{second:.4f},{index % 7}\n" for index, second in enumerate(seconds))
    (folder / "spikes.csv").write_text("time,unit\n" + rows)
    for number in (1, 2):
        np.save(folder / f"part{number}.npy", np.full((10, 4, 4), number, np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    """Items of every kind, with selections, a decoded video and a clock that was set later."""
    folder = tmp_path_factory.mktemp("repair")
    make_sources(folder)
    store = folder / "s.zarr"
    ls.convert(folder / "fields.npy", store, kind="field", shards=32, chunks=8)
    ls.convert(folder / "mouse.mp4", store, time=(0.5, 1.5))
    ls.convert(
        folder / "mouse.mp4", store, name="day2/px", codec="balanced", shards=16, chunks=4,
        crop=(4, 20, 8, 30), every=2, dtype="uint16", source_options={"color": "gray"},
    )  # fmt: skip
    ls.convert(folder / "drone.h5", store, shards=4096, chunks=1024, time=(0.1, 0.9), crop=(2, 40, 0, 60))
    ls.convert(folder / "cells.tif", store, shards=4, chunks=2, rate_hz=10)
    ls.convert(folder / "track.csv", store)
    ls.convert(folder / "spikes.csv", store, kind="spikes")
    ls.convert(
        [folder / "part1.npy", folder / "part2.npy"], store, name="joined", kind="stack", shards=8, chunks=2
    )
    ls.materialize(store, "mouse")
    correct(LocalLocation(store), "fields", {"clock.start": "100", "subject": "m7"})
    assert verify(LocalLocation(store)).ok
    return folder, files_of(store)


@pytest.fixture
def store(made: tuple[Path, Files], tmp_path: Path) -> Path:
    path = tmp_path / "s.zarr"
    shutil.copytree(made[0] / "s.zarr", path)
    return path


def sources(made: tuple[Path, Files]) -> list[Path]:
    return [made[0] / name for name in SOURCES]


def is_superseded(store: Path, key: str) -> bool:
    """Whether a chunk is of old times, which a clock that was set has left there."""
    return (store / key.replace("/c/", "/c.")).exists() and "/c/" in key


def flip(store: Path, keys: list[str], chance: random.Random) -> None:
    for key in keys:
        content = bytearray((store / key).read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (store / key).write_bytes(content)


def cut(store: Path, keys: list[str], chance: random.Random) -> None:
    for key in keys:
        content = (store / key).read_bytes()
        (store / key).write_bytes(content[: chance.randrange(len(content))])


def delete(store: Path, keys: list[str], chance: random.Random) -> None:
    for key in keys:
        (store / key).unlink()


def swap(store: Path, keys: list[str], chance: random.Random) -> None:
    for first, second in zip(keys[::2], keys[1::2], strict=False):
        one, other = (store / first).read_bytes(), (store / second).read_bytes()
        (store / first).write_bytes(other)
        (store / second).write_bytes(one)


@pytest.mark.parametrize("damage", [flip, cut, delete, swap], ids=lambda function: function.__name__)
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_repaired_files_are_those_of_the_conversion(
    made: tuple[Path, Files],
    store: Path,
    damage: Callable[[Path, list[str], random.Random], None],
    share: float,
) -> None:
    """Data of every kind, damaged in any way, comes out byte for byte; what was there is kept beside."""
    wanted = made[1]
    chance = random.Random(41)
    data = [key for key in wanted if not key.endswith(".json") and not is_superseded(store, key)]
    keys = chance.sample(data, max(4, int(len(data) * share)))
    damage(store, keys, chance)
    damaged = {key: content for key, content in files_of(store).items() if content != wanted[key]}
    report = ls.repair(store, sources(made), yes=True)
    assert not report.left
    assert report.exit_status == 0
    assert files_of(store) == wanted
    kept = Path(f"{store}.quarantine")
    assert (files_of(kept) if kept.is_dir() else {}) == damaged
    assert not Path(f"{store}.progress").exists()


def test_every_file_of_metadata_is_mended(made: tuple[Path, Files], store: Path) -> None:
    """Documents and manifests that are lost come back; none but a manifest's pages need a source."""
    wanted = made[1]
    documents = [key for key in wanted if key.endswith("zarr.json")]
    some = [key for key in documents if key.count("/") < 2] + random.Random(37).sample(documents, 10)
    for key in [*some, *(key for key in wanted if "/manifest/" in key)]:
        (store / key).unlink()
        given = sources(made) if "/page-" in key else None
        assert ls.repair(store, given, yes=True, level="quick").exit_status == 0, key
        assert files_of(store) == wanted, key


def test_metadata_and_data_at_once(made: tuple[Path, Files], store: Path) -> None:
    """Flips in a tenth of all files, whichever they are."""
    wanted = made[1]
    chance = random.Random(43)
    pages = [key for key in wanted if "/manifest/" in key]
    others = [key for key in wanted if key not in pages and not is_superseded(store, key)]
    keys = chance.sample(others, len(wanted) // 10)
    # A root that is lost beside an item's own document would be lost twice.
    flip(store, [key for key in keys if key != "zarr.json"] + pages[:1], chance)
    report = ls.repair(store, sources(made), yes=True)
    assert not report.left
    assert files_of(store) == wanted


def test_a_look_touches_nothing(made: tuple[Path, Files], store: Path) -> None:
    """Without yes: the files that would be made again, and not a byte or a file of difference."""
    keys = ["cells/data/c/1/0/0", "fields/stats/max/c/0"]
    flip(store, keys, random.Random(47))
    before = files_of(store.parent)
    report = ls.repair(store, sources(made))
    assert {one.key for one in report.repaired} == set(keys)
    assert not report.done
    assert report.exit_status == 3
    assert files_of(store.parent) == before
    assert sorted(path.name for path in store.parent.iterdir()) == ["s.zarr"]


def test_a_sound_store_is_left_alone(made: tuple[Path, Files], store: Path) -> None:
    """Nothing to do is nothing done."""
    report = ls.repair(store, yes=True)
    assert (report.repaired, report.left, report.exit_status) == ((), (), 0)
    assert files_of(store) == made[1]


def test_a_source_that_changed_is_refused(made: tuple[Path, Files], store: Path, tmp_path: Path) -> None:
    """Under the same name other content: nothing is replaced, and the line says so."""
    np.save(tmp_path / "fields.npy", np.zeros((200, 40, 30), np.float32))
    flip(store, ["fields/data/c/0/0/0"], random.Random(53))
    before = files_of(store)
    report = ls.repair(store, tmp_path / "fields.npy", yes=True)
    assert "no longer what item 'fields' was made from" in report.left[0]
    assert report.exit_status == 3
    assert files_of(store) == before


def test_a_source_that_was_altered_unseen_replaces_nothing(tmp_path: Path) -> None:
    """A change in the middle escapes the sampled hash, but not the manifest's."""
    values = np.random.default_rng(59).integers(0, 255, (64, 80, 100)).astype(np.uint8)
    np.save(tmp_path / "a.npy", values)
    store = tmp_path / "s.zarr"
    ls.convert(tmp_path / "a.npy", store, kind="stack", shards=8, chunks=2)
    np.load(tmp_path / "a.npy", mmap_mode="r+")[33] = 7
    flip(store, ["a/data/c/4/0/0", "a/data/c/5/0/0"], random.Random(61))
    damaged = (store / "a/data/c/4/0/0").read_bytes()
    report = ls.repair(store, tmp_path / "a.npy", yes=True)
    assert [one.key for one in report.repaired] == ["a/data/c/5/0/0"]
    assert "gives other bytes than were committed" in report.left[0]
    assert (store / "a/data/c/4/0/0").read_bytes() == damaged


def test_a_copy_of_the_source_elsewhere_will_do(
    made: tuple[Path, Files], store: Path, tmp_path: Path
) -> None:
    """Content counts, neither the folder nor the date."""
    shutil.copy(made[0] / "cells.tif", tmp_path / "copied.tif")
    delete(store, ["cells/data/c/0/0/0"], random.Random())
    assert ls.repair(store, tmp_path / "copied.tif", yes=True).exit_status == 0
    assert files_of(store) == made[1]


def test_without_its_source_the_file_is_named(made: tuple[Path, Files], store: Path) -> None:
    """The line names the file, and the recording that it needs."""
    delete(store, ["cells/data/c/0/0/0", "cells/data/c/1/0/0"], random.Random())
    report = ls.repair(store, made[0] / "fields.npy", yes=True)
    assert report.left == (
        "cells/data/c/0/0/0 and 1 more files: item 'cells' was made from cells.tif; pass it with --source",
    )


def test_pixels_come_from_the_packets_beside_them(made: tuple[Path, Files], store: Path) -> None:
    """An item that was decoded from another of its store needs no file."""
    delete(store, ["mouse_pixels/data/c/0/0/0/0", "mouse_pixels/stats/min/c/0"], random.Random())
    assert ls.repair(store, yes=True).exit_status == 0
    assert files_of(store) == made[1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_file_is_moved_aside(made: tuple[Path, Files], store: Path) -> None:
    """A link, a pipe or a folder in a shard's place makes way; a half-written file goes."""
    one, two, three = (store / f"cells/data/c/{number}/0/0" for number in range(3))
    for path in (one, two, three):
        path.unlink()
    one.symlink_to("/dev/zero")
    os.mkfifo(two)
    three.mkdir()
    (one.parent / ".0.12-34.partial").write_bytes(b"half")
    assert ls.repair(store, made[0] / "cells.tif", yes=True).exit_status == 0
    assert files_of(store) == made[1]
    assert (Path(f"{store}.quarantine") / "cells/data/c/0/0/0").is_symlink()


def test_times_that_somebody_gave_are_nowhere_else(tmp_path: Path) -> None:
    """The array of times is left, with the reason; frames are made again all the same."""
    np.save(tmp_path / "a.npy", np.arange(96, dtype=np.uint8).reshape(24, 2, 2))
    store = tmp_path / "s.zarr"
    ls.convert(tmp_path / "a.npy", store, kind="stack", shards=8, chunks=2, times=np.sqrt(np.arange(24)))
    delete(store, ["a/time/c/0", "a/data/c/1/0/0"], random.Random())
    report = ls.repair(store, tmp_path / "a.npy", yes=True)
    assert [one.key for one in report.repaired] == ["a/data/c/1/0/0"]
    assert report.left == (
        "a/time/c/0: neither the source, --times nor --env gives it; convert it again with --overwrite",
    )


@pytest.mark.parametrize(
    ("options", "n_times"),
    [
        ({}, 24),
        ({"time": (1.0, 4.0), "every": 2}, 24),
        ({"times_mismatch": "tail"}, 21),
        ({"times_mismatch": "head", "time": (None, 4.0)}, 27),
    ],
    ids=["all", "part", "late", "surplus"],
)
def test_times_are_given_again(tmp_path: Path, options: dict[str, Any], n_times: int) -> None:
    """As they were given to the conversion; other ones replace nothing."""
    np.save(tmp_path / "a.npy", np.arange(96, dtype=np.uint8).reshape(24, 2, 2))
    np.savetxt(tmp_path / "times.csv", np.sqrt(np.arange(n_times)), header="s", comments="")
    times = tmp_path / "times.csv"
    store = tmp_path / "s.zarr"
    ls.convert(tmp_path / "a.npy", store, kind="stack", times=times, overview="preview", **options)
    wanted = files_of(store)
    lost = [
        key
        for key in wanted
        if key.startswith(("a/time/c/", "a/overview/")) and "time" in key and "/c/" in key
    ]
    assert len(lost) == 2
    delete(store, lost, random.Random())
    given = {"times_mismatch": options.get("times_mismatch"), "yes": True}
    other = ls.repair(store, tmp_path / "a.npy", times=np.arange(n_times) + 0.5, **given)
    assert sorted(line.partition(":")[0] for line in other.left) == sorted(lost)
    assert all("other bytes than were committed" in line for line in other.left)
    few = ls.repair(store, tmp_path / "a.npy", times=[1.0, 2.0], yes=True)
    assert "2 times do not match 24 records" in few.left[0]
    words = [str(store), "--source", str(tmp_path / "a.npy"), "--times", f"{times}:s", "--yes"]
    mismatch = options.get("times_mismatch")
    assert main(["repair", *words, *(["--times-mismatch", mismatch] if mismatch else [])]) == 0
    assert files_of(store) == wanted


def test_an_environment_is_given_again(tmp_path: Path) -> None:
    """Geometry lies in no recording: it comes from the environment."""
    env = Geometry("points", 4, 1, np.arange(4.0)[:, np.newaxis])
    np.save(tmp_path / "rates.npy", np.random.default_rng(3).random((20, 4)).astype(np.float32))
    store = tmp_path / "s.zarr"
    ls.convert(tmp_path / "rates.npy", store, env=env)
    wanted = files_of(store)
    delete(store, ["rates/geometry/bin_centers/c/0/0", "rates/data/c/0/0"], random.Random())
    assert len(ls.repair(store, tmp_path / "rates.npy", yes=True).left) == 1
    assert ls.repair(store, tmp_path / "rates.npy", env=env, yes=True).exit_status == 0
    assert files_of(store) == wanted


def test_a_conversion_that_was_interrupted_comes_first(tmp_path: Path) -> None:
    """Between its commit and its end an item belongs to its conversion."""
    np.save(tmp_path / "a.npy", np.zeros((8, 2, 2), np.uint8))
    store = tmp_path / "s.zarr"
    ls.convert(tmp_path / "a.npy", store, kind="stack")
    plan = Path(f"{store}.progress/a/plan.json")
    plan.parent.mkdir(parents=True)
    plan.write_text("{}")
    with pytest.raises(StoreError, match="was interrupted; run the same command again"):
        ls.repair(store, tmp_path / "a.npy", yes=True)


def test_a_bucket_is_no_place_for_repairs() -> None:
    """Remote stores are refused before anything is asked of them."""
    with pytest.raises(UsageError, match="is remote and cannot be repaired in place"):
        ls.repair("s3://bucket/s.zarr")


def test_the_command_says_what_it_would_do_and_does_it(
    made: tuple[Path, Files], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """3 and a plan; with --yes 0 and a store that is sound."""
    delete(store, ["cells/data/c/0/0/0"], random.Random())
    command = ["repair", str(store), "--source", str(made[0] / "cells.tif")]
    assert main(["verify", str(store), "--quick"]) == 3
    assert "lazystore repair" in capsys.readouterr().err
    assert main(command) == 3
    printed = capsys.readouterr()
    assert "would repair (from source): cells/data/c/0/0/0" in printed.out
    assert "add --yes" in printed.err
    assert main([*command, "--yes", "--quick", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["repaired"] == [{"file": "cells/data/c/0/0/0", "how": "from source"}]
    assert main(command) == 0
    assert "all sound" in capsys.readouterr().out
    assert main(["repair", str(store.parent / "none.zarr")]) == 1
    assert "there is no store" in capsys.readouterr().err
    other = store.parent / "other.zarr"
    other.mkdir()
    (other / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert main(["repair", str(other)]) == 5
