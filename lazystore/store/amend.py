"""Replacing an item's metadata and small arrays by a commit of its own; shards stay as they are.

New bytes go to new keys, so that a reader of the old metadata never meets them: documents of the
manifest are named by their content, and a rewritten array flips the separator in its keys. The
item's ``zarr.json`` is the commit point again. Killed before it, the old state stands; killed
after it, the new one; what is left over is cleared away at the next change.

The old keys of an array stay, for plain Zarr in a process that read the old metadata: it would take
what is absent for fill values. The next change flips back and writes over them, so they are two at most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from lazystore.errors import HostileStoreError, StoreError
from lazystore.schema import JSON, ArraySpec, UnfamiliarLayoutError, spec_from_metadata
from lazystore.store.index import METADATA, ItemRecord, read_item, update_root, write_json
from lazystore.store.location import LocalLocation, is_partial
from lazystore.store.lock import file_lock
from lazystore.store.manifest import Entry, read_entries, read_root, write_manifest
from lazystore.store.progress import ProgressArea
from lazystore.store.shard import encode_file

AMENDMENT = "amendment.json"


def flipped(spec: ArraySpec) -> ArraySpec:
    """The same array under keys that the old one does not use."""
    return replace(spec, separator="." if spec.separator == "/" else "/")


@contextlib.contextmanager
def locked_item(location: LocalLocation, name: str) -> Iterator[ItemRecord]:
    """A committed item, held so that nobody else changes it; an interrupted change is settled first.

    Raises
    ------
    StoreError
        If there is no such item, or somebody else is writing it.
    """
    area = ProgressArea(location.root, name)
    held = f"item {name!r} of {location.url} is being written by another process; try again later"
    try:
        with file_lock(area.lock_path, wait=False, held_message=held):
            settle(location, name, area)
            record = read_item(location, name)
            if record is None:
                raise StoreError(f"there is no item {name!r} in {location.url}; see lazystore info")
            yield record
    finally:
        with contextlib.suppress(OSError):
            area.top.rmdir()


def amend(
    location: LocalLocation,
    record: ItemRecord,
    *,
    attributes: Mapping[str, JSON],
    user_attributes: Mapping[str, JSON],
    arrays: Sequence[tuple[ArraySpec, Iterable[NDArray[Any]]]] = (),
    documents: Mapping[str, Mapping[str, JSON]] | None = None,
) -> ItemRecord:
    """Commit an item anew; the caller holds it with `locked_item`.

    Parameters
    ----------
    record
        The item as it is.
    attributes, user_attributes
        What it shall say of itself; the manifest's reference is set here.
    arrays
        Unsharded arrays with new values: `flipped` records, and their values a chunk at a time.
    documents
        Documents of arrays whose attributes change, by path.
    """
    name = record.name
    area = ProgressArea(location.root, name)
    old_root = read_root(location, name, record.attributes)
    rewritten = {spec.path: flipped(spec) for spec, _ in arrays}

    def is_replaced(key: str) -> bool:
        return any(key.startswith(f"{path}/c{old.separator}") for path, old in rewritten.items())

    old_entries = list(read_entries(location, name, old_root))
    new_entries: list[Entry] = []
    checksums: dict[str, JSON] = dict(record.attributes.get("checksums", {}))
    all_documents: dict[str, dict[str, Any]] = {
        path: dict(document) for path, document in record.documents.items()
    }
    all_documents.update({path: dict(document) for path, document in (documents or {}).items()})
    # Told before it is done: every key that may be new, so that a kill leaves nothing unknown.
    planned = [f"{spec.path}/{spec.key((number,))}" for spec, _ in arrays for number in range(spec.n_files)]
    folder = old_root.key.rpartition("/")[0]
    area.write_document(AMENDMENT, {"new": planned, "old": [], "folder": folder})
    for spec, pieces in arrays:
        all_documents[spec.path] = spec.to_metadata()
        found: list[int] = []
        for number, piece in enumerate(pieces):
            file_index = spec.file_index(number)
            encoded = encode_file(spec, file_index, piece)
            key = f"{spec.path}/{spec.key(file_index)}"
            location.write(f"{name}/{key}", encoded.parts)
            new_entries.append(Entry(key, encoded.size, encoded.crc32c, encoded.sha256))
            found.append(encoded.checksum)
        checksums[spec.path] = found
    kept = [entry for entry in old_entries if not is_replaced(entry.key)]
    body = {**{key: value for key, value in attributes.items() if key != "manifest"}, "checksums": checksums}
    root = write_manifest(location, name, folder, [*kept, *new_entries], all_documents, body)
    still_used = {root.key, *(page.key for page in root.pages)}
    stale = [key for key in (old_root.key, *(page.key for page in old_root.pages)) if key not in still_used]
    area.write_document(AMENDMENT, {"new": planned, "old": stale, "folder": folder, "root": root.key})
    amended = ItemRecord(
        name,
        {**body, "manifest": root.reference()},
        all_documents,
        dict(user_attributes),
    )
    write_json(location, f"{name}/{METADATA}", amended.to_document())
    settle(location, name, area)
    return amended


def superseded_keys(record: ItemRecord, n_files: int) -> Iterator[str]:
    """Keys below an item that its small arrays may have had before a change; most are not there.

    At most `n_files`, which it has in all: an array may declare any length.
    """
    return islice(_flipped_keys(record), n_files)


def _flipped_keys(record: ItemRecord) -> Iterator[str]:
    for path, document in record.documents.items():
        if document.get("node_type") != "array":
            continue
        try:
            spec = flipped(spec_from_metadata(path, document))
        except (UnfamiliarLayoutError, HostileStoreError):
            continue
        if spec.shards is None and spec.shape:
            yield from (f"{path}/{spec.key(spec.file_index(number))}" for number in range(spec.n_files))


def settle(location: LocalLocation, name: str, area: ProgressArea) -> None:
    """Finish or undo a change that was interrupted; nothing to do where there was none.

    The caller holds the item's lock.
    """
    area.delete_partials()
    journal = area.read_document(AMENDMENT)
    if journal is None:
        return
    for key in list(location.list(f"{name}/")):
        if is_partial(key):
            location.delete(key)
    record = read_item(location, name)
    current = "" if record is None else str(record.attributes["manifest"]["key"])
    if record is not None and journal.get("root") == current:
        for path, document in record.documents.items():
            write_json(location, f"{name}/{path}/{METADATA}", document)
        with file_lock(area.root_lock_path, wait=True, held_message="the root is being rebuilt"):
            update_root(location, add=[name], remove=[])
        doomed = journal["old"]
    else:
        doomed = journal["new"]
    for key in doomed:
        location.delete(f"{name}/{key}")
    if record is not None:
        # Pages and roots that no committed item names any more.
        root = read_root(location, name, record.attributes)
        used = {root.key, *(page.key for page in root.pages)}
        for key in list(location.list(f"{name}/{journal['folder']}/")):
            if key.removeprefix(f"{name}/") not in used:
                location.delete(key)
    area.delete_document(AMENDMENT)
