"""Files of a finished store that were flipped, cut, zeroed, deleted or swapped."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.errors import DamagedStoreError, LazystoreError
from lazystore.store.location import LocalLocation
from lazystore.store.verify import VerifyReport, verify
from tests.samples import make_track
from tests.scoreboard import record, scaled

# Everything that can be read of a store, by array.
type Contents = dict[str, np.ndarray[Any, Any]]
FLIPS_A_FILE = scaled(4, 60)
CUTS_A_FILE = scaled(1, 15)
ZEROS_A_FILE = scaled(2, 15)
ITEMS = ("movie", "day2/fields", "track")


def make_store(folder: Path, codec: str) -> Path:
    """A movie whose shards decode to equal sizes, pulses as irregular times, a track with names."""
    rng = np.random.default_rng(5)
    movie = rng.integers(0, 50, (24, 6, 7)).astype(np.uint8)
    np.save(folder / "movie.npy", movie)
    np.save(folder / "fields.npy", rng.random((14, 9)).astype(np.float32))
    make_track(folder / "track.csv")
    path = folder / "s.zarr"
    times = np.cumsum(rng.random(24))
    ls.convert(folder / "movie.npy", path, chunks=2, shards=8, codec=codec, times=times)
    ls.convert(folder / "fields.npy", path, name="day2/fields", chunks=4, shards=8, codec=codec)
    ls.convert(folder / "track.csv", path, codec=codec)
    return path


def read_all(path: Path) -> Contents:
    """Every array of every item; raises where the store or an array cannot be read."""
    found: Contents = {}
    store: Any = ls.open(path)
    with store:
        for name, record in store.records.items():
            for array, document in record.documents.items():
                if document["node_type"] == "array":
                    found[f"{name}/{array}"] = store.array_values(name, array)
    return found


def read_each(path: Path, names: list[str]) -> Iterator[tuple[str, Any]]:
    """The arrays that can be read; a refusal is an answer too."""
    try:
        store: Any = ls.open(path)
    except LazystoreError:
        return
    with store:
        for name in names:
            item = next((item for item in store if name.startswith(f"{item}/")), None)
            if item is None or not hasattr(store, "array_values"):
                continue
            try:
                yield name, store.array_values(item, name[len(item) + 1 :])
            except (LazystoreError, KeyError):
                continue


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """A store that is never damaged, and what it holds.

    Not compressed: there nothing but checksums and marks can notice anything.
    """
    path = make_store(tmp_path_factory.mktemp("sound"), "none")
    assert verify(LocalLocation(path)).ok
    return path, read_all(path)


@pytest.fixture
def copy(sound: tuple[Path, Contents], tmp_path: Path) -> Path:
    path = tmp_path / "s.zarr"
    shutil.copytree(sound[0], path)
    return path


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def same_document(before: bytes, after: bytes) -> bool:
    """Whether a flip left JSON that says the same: 1e5 for 1E5."""
    try:
        return bool(json.loads(before) == json.loads(after))
    except ValueError:
        return False


def flips(content: bytes, chance: random.Random) -> Iterator[bytes]:
    for _ in range(FLIPS_A_FILE):
        place, bit = chance.randrange(len(content)), 1 << chance.randrange(8)
        yield content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def cuts(content: bytes, chance: random.Random) -> Iterator[bytes]:
    yield b""
    yield content[:-1]
    yield content + b"\0"
    for _ in range(CUTS_A_FILE):
        yield content[: chance.randrange(len(content))]


def zeros(content: bytes, chance: random.Random) -> Iterator[bytes]:
    for _ in range(ZEROS_A_FILE):
        start = chance.randrange(len(content))
        length = min(len(content) - start, 64)
        yield content[:start] + bytes(length) + content[start + length :]


@pytest.mark.parametrize("damage", [flips, cuts, zeros], ids=lambda function: function.__name__)
def test_altered_bytes_never_read_wrong(
    sound: tuple[Path, Contents],
    copy: Path,
    damage: Callable[[bytes, random.Random], Iterator[bytes]],
) -> None:
    """Every array that still reads is right, and a full check names the file."""
    chance = random.Random(17)
    _, contents = sound
    wrong: list[str] = []
    cases = 0
    for file in files_of(copy):
        key = str(file.relative_to(copy))
        content = file.read_bytes()
        for altered in damage(content, chance):
            if altered == content or (file.suffix == ".json" and same_document(content, altered)):
                continue
            cases += 1
            file.write_bytes(altered)
            wrong += [f"{key}: read {name} wrong" for name in wrong_arrays(copy, contents, key)]
            wrong += [f"{key}: verify does not name it"] * (not is_named(copy, key))
        file.write_bytes(content)
    assert not wrong, "\n".join(wrong[:20])
    assert cases > 100
    record(4, damage=damage.__name__, cases=cases, wrong=0, unnamed=0)
    assert verify(LocalLocation(copy)).ok


def wrong_arrays(path: Path, contents: Contents, *keys: str) -> list[str]:
    """Arrays that read otherwise than they should, of the items whose files were altered.

    Another item's arrays lie in files that are sound; the documents above the items speak of all.
    """
    folders = tuple(f"{item}/" for item in ITEMS)
    if all(key.startswith(folders) for key in keys):
        folders = tuple(folder for folder in folders if any(key.startswith(folder) for key in keys))
    arrays = [name for name in contents if name.startswith(folders)]
    return [name for name, values in read_each(path, arrays) if not np.array_equal(values, contents[name])]


def is_named(path: Path, key: str) -> bool:
    return names(verify(LocalLocation(path)), key)


def names(report: VerifyReport, key: str) -> bool:
    if not report.has_manifest:
        return key == "zarr.json"  # then it is no store of ours any more, which has a status of its own
    # A damaged manifest file is named by the item that needs it.
    return any(key == finding.key or key.split("/", 1)[1] in finding.detail for finding in report.findings)


def test_deleted_files_never_read_as_fill_values(sound: tuple[Path, Contents], copy: Path) -> None:
    """An absent file is an error where it is needed, and the check names it as missing."""
    _, contents = sound
    for file in files_of(copy):
        key = str(file.relative_to(copy))
        content = file.read_bytes()
        file.unlink()
        assert not wrong_arrays(copy, contents, key), key
        report = verify(LocalLocation(copy))
        assert names(report, key) or key == "zarr.json"
        assert not report.ok
        file.write_bytes(content)
    record(4, damage="deletes", cases=len(files_of(copy)), wrong=0, unnamed=0)


def test_swapped_files_never_read_wrong(sound: tuple[Path, Contents], copy: Path) -> None:
    """Two files in each other's place, both sound in themselves, are noticed when they are read."""
    _, contents = sound
    chance = random.Random(23)
    files = [file for file in files_of(copy) if file.suffix != ".json"]
    pairs = list(itertools.combinations(files, 2))
    # Of equal size first: nothing but the content tells those apart.
    pairs.sort(key=lambda pair: pair[0].stat().st_size != pair[1].stat().st_size)
    n_pairs, cases = scaled(40, 1000), 0
    for first, second in [*pairs[:n_pairs], *chance.sample(pairs, n_pairs // 2)]:
        one, other = first.read_bytes(), second.read_bytes()
        if one == other:
            continue
        first.write_bytes(other)
        second.write_bytes(one)
        keys = [str(file.relative_to(copy)) for file in (first, second)]
        assert not wrong_arrays(copy, contents, *keys), (first, second)
        report = verify(LocalLocation(copy))
        assert all(names(report, key) for key in keys)
        first.write_bytes(one)
        second.write_bytes(other)
        cases += 1
    record(4, damage="swaps", cases=cases, wrong=0, unnamed=0)


def test_a_shard_of_an_older_conversion_is_noticed(tmp_path: Path) -> None:
    """A file that survived from before an overwrite, at its old key and sound, is no data."""
    path = tmp_path / "s.zarr"
    np.save(tmp_path / "a.npy", np.zeros((16, 4), np.uint8))
    ls.convert(tmp_path / "a.npy", path, chunks=2, shards=8, codec="none")
    old = (path / "a/data/c/0/0").read_bytes()
    np.save(tmp_path / "a.npy", np.ones((16, 4), np.uint8))
    ls.convert(tmp_path / "a.npy", path, chunks=2, shards=8, codec="none", overwrite=True)
    (path / "a/data/c/0/0").write_bytes(old)
    with ls.open(path) as store, pytest.raises(DamagedStoreError, match="older conversion"):
        store["a"][0]


def test_the_check_names_records_and_seconds(copy: Path) -> None:
    """A shard's damage is told in frames and session seconds."""
    file = copy / "movie/data/c/2/0/0"
    file.write_bytes(file.read_bytes()[:-3])
    report = verify(LocalLocation(copy))
    (finding,) = report.findings
    assert finding.key == "movie/data/c/2/0/0"
    assert finding.problem == "wrong size"
    assert finding.records == (16, 24)
    assert finding.seconds is not None
    assert finding.seconds[0] < finding.seconds[1]
    assert report.exit_status == 3


def test_sound_stores_give_no_alarm(tmp_path: Path) -> None:
    """Random sizes and dtypes, just converted: nothing to name."""
    rng = np.random.default_rng(29)
    n_stores = scaled(25, 100)
    for number in range(n_stores):
        dtype = rng.choice(["u1", "i2", "f4", "f8"])
        shape = tuple(rng.integers(1, 12, rng.integers(2, 4)))
        path = tmp_path / f"{number}.zarr"
        ls.convert(rng.random(shape).astype(dtype), path, name="a", workers=1)
        report = verify(LocalLocation(path))
        assert report.ok, [str(finding) for finding in report.findings]
    record(5, stores=n_stores, alarms=0)
