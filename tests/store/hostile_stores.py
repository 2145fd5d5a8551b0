"""Stores made to harm their reader; run as a script by `test_hostile`.

One process makes them all and forks a child for each, with a bound on memory and time, which opens the
store and reads all that it can. Their hashes are right where metadata lies: a stranger can compute them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

import lazystore as ls
from lazystore.errors import LazystoreError
from lazystore.store.index import ItemRecord, StoreIndex, read_item, root_document, write_json
from lazystore.store.location import LocalLocation
from lazystore.store.manifest import read_entries, read_root, write_manifest
from tests.samples import make_events, make_video

CANARY = 199
MAX_SECONDS = 20
MAX_BYTES = 4 << 30

type Documents = dict[str, dict[str, Any]]
type Change = Callable[[dict[str, Any], Documents], None]


def make_base(folder: Path) -> None:
    """A store with a stack, events and packets; outside of it, what must not be read."""
    values = np.random.default_rng(1).integers(0, 99, (40, 6, 7)).astype(np.uint8)
    np.save(folder / "a.npy", values)
    make_events(folder / "e.h5")
    make_video(folder / "v.mp4")
    store = folder / "s.zarr"
    ls.convert(folder / "a.npy", store, kind="stack", chunks=2, shards=8, codec="fast")
    ls.convert(folder / "e.h5", store)
    ls.convert(folder / "v.mp4", store)
    outside = folder / "outside.zarr"
    ls.convert(np.full((40, 6, 7), CANARY, np.uint8), outside, name="a", kind="stack", chunks=2, shards=8)


def recommit(store: Path, name: str, change: Change) -> None:
    """Change an item's metadata with all hashes right."""
    location = LocalLocation(store)
    record = read_item(location, name)
    assert record is not None
    attributes: dict[str, Any] = json.loads(json.dumps(record.attributes))
    documents: Documents = json.loads(json.dumps(record.documents))
    root = read_root(location, name, record.attributes)
    entries = list(read_entries(location, name, root))
    change(attributes, documents)
    manifest = attributes.pop("manifest")
    folder = manifest["key"].rpartition("/")[0]
    if manifest == record.attributes["manifest"]:
        manifest = write_manifest(location, name, folder, entries, documents, attributes).reference()
    changed = ItemRecord(name, {**attributes, "manifest": manifest}, documents)
    for path, document in documents.items():
        if ".." not in path:
            write_json(location, f"{name}/{path}/zarr.json", document)
    write_json(location, f"{name}/zarr.json", changed.to_document())
    items = {other: read_item(location, other) for other in "aev" if other != name}
    index = StoreIndex({**{key: item for key, item in items.items() if item}, name: changed})
    write_json(location, "zarr.json", root_document(index))


def array(name: str, path: str, **fields: Any) -> Callable[[Path], None]:
    """Other fields in an array's document."""

    def change(_: dict[str, Any], documents: Documents) -> None:
        documents[path].update(fields)

    return lambda folder: recommit(folder / "s.zarr", name, change)


def attribute(name: str, **fields: Any) -> Callable[[Path], None]:
    """Other entries in an item's record."""

    def change(attributes: dict[str, Any], _: Documents) -> None:
        for key, value in fields.items():
            old = attributes.get(key)
            attributes[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value

    return lambda folder: recommit(folder / "s.zarr", name, change)


def grid(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def instead(key: str, make: Callable[[Path, Path], object]) -> Callable[[Path], None]:
    """Something else in a file's or folder's place; `make` gets the place, and what lay there, elsewhere."""

    def act(folder: Path) -> None:
        place, aside = folder / "s.zarr" / key, folder / "aside"
        os.replace(place, aside)
        make(place, folder)

    return act


def link_and_lose(place: Path, folder: Path) -> None:
    """A folder outside where a file is missing, which a repair must not put there."""
    outside = folder / "outside.zarr/a/stats/min"
    (outside / "c/0").unlink()
    place.symlink_to(outside)


def listen(place: Path, _: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(place.parent)  # a socket's path may be 107 bytes long
    server.bind(place.name)
    os.chdir(here)
    server.close()


def sparse(n_bytes: int) -> Callable[[Path, Path], None]:
    def make(place: Path, folder: Path) -> None:
        with place.open("wb") as file:
            file.truncate(n_bytes)

    return make


def bomb(place: Path, folder: Path) -> None:
    """A shard whose chunks are right by every checksum, and unfold beyond what the array holds."""
    import google_crc32c

    packed = bytes(numcodecs.Blosc("zstd", 9, 0).encode(np.zeros(1 << 14, "u1")))
    chunk = packed + struct.pack("<I", google_crc32c.value(packed))
    index = b"".join(struct.pack("<QQ", 0, len(chunk)) for _ in range(4))
    mark = (folder / "aside").read_bytes()[-(16 + 4 * 16 + 4) : -(4 * 16 + 4)]
    place.write_bytes(chunk + mark + index + struct.pack("<I", google_crc32c.value(index)))


def lying_index(offset: int, size: int) -> Callable[[Path, Path], None]:
    def make(place: Path, folder: Path) -> None:
        import google_crc32c

        whole = (folder / "aside").read_bytes()
        index = b"".join(struct.pack("<QQ", offset, size) for _ in range(4))
        place.write_bytes(whole[: -(4 * 16 + 4)] + index + struct.pack("<I", google_crc32c.value(index)))

    return make


def foreign(folder: Path, **fields: Any) -> None:
    """A Zarr v2 array of somebody else."""
    shutil.rmtree(folder / "s.zarr")
    (folder / "s.zarr").mkdir()
    document = {
        "zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "|u1", "compressor": None, "fill_value": 0,
        "order": "C", "filters": None, **fields,
    }  # fmt: skip
    (folder / "s.zarr/.zarray").write_text(json.dumps(document))
    (folder / "s.zarr/0").write_bytes(b"\x80\x04K\x01.")


def items_of_root(*names: str) -> Callable[[Path], None]:
    """Names that point elsewhere, in a root whose hash is right."""

    def act(folder: Path) -> None:
        location = LocalLocation(folder / "s.zarr")
        record = read_item(location, "a")
        assert record is not None
        items = {name: replace(record, name=name) for name in names}
        write_json(location, "zarr.json", root_document(StoreIndex(items)))

    return act


def write(key: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "s.zarr" / key).write_bytes(content) and None


SHARD = "a/data/c/0/0/0"
EVIL_CODECS = [{"name": "numcodecs.pickle", "configuration": {}}]

PIXELS = 1 << 30
SOURCES = ("a.npy", "e.h5", "v.mp4")

STORES: dict[str, Callable[[Path], None]] = {
    # --- what is no file, or lies elsewhere
    "shard is a pipe": instead(SHARD, lambda place, _: os.mkfifo(place)),
    "shard is a socket": instead(SHARD, listen),
    "shard is a folder": instead(SHARD, lambda place, _: place.mkdir()),
    "shard links outside": instead(SHARD, lambda p, f: p.symlink_to(f / "outside.zarr" / SHARD)),
    "shard links to a device": instead(SHARD, lambda p, _: p.symlink_to("/dev/zero")),
    "shard links to itself": instead(SHARD, lambda p, _: p.symlink_to(p)),
    "array links outside": instead("a/data", lambda p, f: p.symlink_to(f / "outside.zarr/a/data")),
    "statistics link outside": instead("a/stats/min", link_and_lose),
    "item links outside": instead("a", lambda p, f: p.symlink_to(f / "outside.zarr/a")),
    "times are a pipe": instead("a/time/c/0", lambda p, _: os.mkfifo(p)),
    "item's metadata is a pipe": instead("a/zarr.json", lambda p, _: os.mkfifo(p)),
    "root is a pipe": instead("zarr.json", lambda p, _: os.mkfifo(p)),
    "root links outside": instead("zarr.json", lambda p, f: p.symlink_to(f / "outside.zarr/zarr.json")),
    "root links to a device": instead("zarr.json", lambda p, _: p.symlink_to("/dev/zero")),
    # --- sizes
    "root of a terabyte": instead("zarr.json", sparse(1 << 40)),
    "item's metadata of 20 MB": instead("a/zarr.json", sparse(20 << 20)),
    "shard of a terabyte": instead(SHARD, sparse(1 << 40)),
    "packets of a terabyte": instead("v/packets/c/0", sparse(1 << 40)),
    "chunks that unfold": instead(SHARD, bomb),
    "chunk beyond its shard": instead(SHARD, lying_index(1 << 40, 1 << 20)),
    "chunk of an exabyte": instead(SHARD, lying_index(0, 1 << 60)),
    "times of a terabyte": array("a", "time", shape=[10**12]),
    "times in one chunk of a terabyte": array("a", "time", shape=[10**12], chunk_grid=grid(10**12)),
    "frames of an exabyte": array(
        "a", "data", shape=[40, PIXELS, PIXELS], chunk_grid=grid(8, PIXELS, PIXELS)
    ),
    "a length beyond integers": array("a", "data", shape=[1 << 70, 6, 7]),
    "a negative length": array("a", "data", shape=[-40, 6, 7]),
    "forty dimensions": array(
        "a", "time", shape=[1] * 40, chunk_grid=grid(*[1] * 40), dimension_names=["d"] * 40
    ),
    "text of a terabyte": array(
        "a", "time", data_type={"name": "fixed_length_utf32", "configuration": {"length_bytes": 1 << 40}}
    ),
    # --- code and codecs
    "objects in v2": lambda f: foreign(f, dtype="|O", filters=[{"id": "pickle", "protocol": 4}]),
    "pickles in v2": lambda f: foreign(f, filters=[{"id": "pickle", "protocol": 4}]),
    "pickles as compressor": lambda f: foreign(f, compressor={"id": "pickle"}),
    "pickles in v3": array("a", "time", codecs=EVIL_CODECS),
    "an object dtype": array("a", "time", data_type={"name": "object", "configuration": {}}),
    # --- names
    "an item above the root": items_of_root("../outside.zarr/a"),
    "an item by a whole path": items_of_root("/etc"),
    "an item with a zero byte": items_of_root("a\0b"),
    "a manifest above the root": attribute(
        "a", manifest={"key": "../../outside.zarr/zarr.json", "sha256": "0" * 64}
    ),
    "an array above the item": lambda f: recommit(
        f / "s.zarr", "a", lambda _, docs: docs.update({"../../outside.zarr/a/data": docs["data"]})
    ),
    # --- metadata
    "JSON a million levels deep": write("zarr.json", b"[" * 1_000_000),
    "a format of tomorrow": attribute("a", format={"major": 99, "minor": 0, "requires": []}),
    "a requirement nobody knows": attribute("a", format={"major": 1, "minor": 0, "requires": ["magic"]}),
    "packets outside the file": lambda f: recommit(f / "s.zarr", "v", _longer_packets),
    "a decoder nobody knows": lambda f: recommit(f / "s.zarr", "v", _odd_decoder),
    "frames of packets of an exabyte": lambda f: recommit(f / "s.zarr", "v", _huge_frames),
    "an exabyte of missing frames": attribute("v", missing=[[0, 1 << 60]]),
    "an event sensor of an exabyte": attribute("e", sensor=[1 << 30, 1 << 30]),
    "an index of no events": array("e", "index/t_min", shape=[0]),
}  # fmt: skip


def _longer_packets(_: dict[str, Any], documents: Documents) -> None:
    documents["packets"]["shape"] = [1 << 40]


def _odd_decoder(attributes: dict[str, Any], _: Documents) -> None:
    attributes["encoded"]["parameters"].update(codec="none such", decoder="none such")


def _huge_frames(attributes: dict[str, Any], _: Documents) -> None:
    def enlarge(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: 1 << 30 if k in ("width", "height") else enlarge(v) for k, v in value.items()}
        return value

    attributes["encoded"] = enlarge(attributes["encoded"])


def read_all(path: Path) -> list[str]:
    """What was refused; reads everything that it is given."""
    refused: list[str] = []

    def attempt(action: Callable[[], object]) -> Any:
        try:
            return action()
        except (LazystoreError, KeyError) as error:
            refused.append(f"{type(error).__name__}: {error}")
            return None

    def check(values: Any) -> None:
        assert not (values is not None and np.size(values) and np.asarray(values).dtype == np.uint8
                    and (np.asarray(values) == CANARY).all()), "read what lies outside"  # fmt: skip

    store = attempt(lambda: ls.open(path))
    if store is None:
        return refused
    attempt(store.info)
    for name in store:
        item = attempt(lambda name=name: store[name])  # type: ignore[misc]  # bound now
        if hasattr(item, "window"):
            attempt(lambda item=item: item.window(0, 1_000_000))  # type: ignore[misc]
            attempt(lambda item=item: item.frames(period=100_000)[0])  # type: ignore[misc]
        elif item is not None and hasattr(item, "shape"):
            check(attempt(lambda item=item: item[0]))  # type: ignore[misc]
            attempt(lambda item=item: item.sel(time=0.1, method="nearest"))  # type: ignore[misc]
        for key, document in store.records[name].documents.items() if hasattr(store, "records") else ():
            if document.get("node_type") == "array":
                check(attempt(lambda name=name, key=key: store.array_values(name, key)))  # type: ignore[misc]
    attempt(lambda: repr(store))
    report = attempt(store.verify)
    refused += [str(finding) for finding in getattr(report, "findings", ())]
    store.close()
    return refused


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def try_one(folder: Path) -> dict[str, Any]:
    """Open and read a store in a child of its own."""
    import resource

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = resident_bytes()
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
        signal.alarm(MAX_SECONDS)
        began = time.process_time()  # other work on the machine is no fault; a hang meets the alarm
        outcome: dict[str, Any] = {}
        try:
            outcome["refused"] = [line[:200] for line in read_all(folder / "s.zarr")[:3]]
            with contextlib.suppress(LazystoreError):
                ls.repair(folder / "s.zarr", [folder / name for name in SOURCES], yes=True)
        except BaseException as error:
            outcome["crashed"] = f"{type(error).__name__}: {error}"[:300]
        outcome["seconds"] = time.process_time() - began
        outcome["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        with os.fdopen(writer, "w") as pipe:
            json.dump(outcome, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"crashed": f"ended with status {status}"}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main(folder: Path) -> dict[str, Any]:
    base = folder / "base"
    base.mkdir(parents=True)
    make_base(base)
    assert not read_all(base / "s.zarr"), "the store is refused before anything is done to it"
    zarr.open_group(base / "s.zarr", mode="r")  # its imports are not what is measured
    outcomes = {}
    for number, (name, act) in enumerate(STORES.items()):
        work = folder / str(number)
        shutil.copytree(base, work)
        act(work)
        outside = files_of(work / "outside.zarr")
        outcomes[name] = try_one(work)
        if files_of(work / "outside.zarr") != outside:
            outcomes[name]["crashed"] = "a repair wrote outside the store"
        shutil.rmtree(work)
    return outcomes


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    json.dump(main(Path(sys.argv[1])), sys.stdout, indent=1)
