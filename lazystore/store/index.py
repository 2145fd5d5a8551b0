"""The items of a store: each item's own record, and the root's copy of all of them.

An item exists once its group's ``zarr.json`` does: that file is the commit point and names the
manifest by hash. The root's consolidated metadata is a copy, made so that opening costs one read;
where it does not match its own hash, the items' records are read one by one instead.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lazystore.errors import DamagedStoreError, StoreError
from lazystore.schema import (
    JSON,
    MAX_METADATA_BYTES,
    canonical_json,
    check_format,
    consolidated,
    format_record,
    group_metadata,
    sha256_of_json,
)
from lazystore.store.location import Location, Writable
from lazystore.store.manifest import attributes_sha256, read_root

METADATA = "zarr.json"
MARKER = "lazystore"


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One committed item.

    Attributes
    ----------
    name
        Path below the root: ``"mouse"``, ``"day2/cam"``.
    attributes
        Its `attrs.lazystore`.
    documents
        ``zarr.json`` documents below it (arrays and child groups) by path.
    user_attributes
        Whatever else stands in the group's attributes; not covered by any hash.
    """

    name: str
    attributes: Mapping[str, Any]
    documents: Mapping[str, Mapping[str, Any]]
    user_attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the item is: field, video, events, ..."""
        return str(self.attributes["kind"])

    @property
    def generation(self) -> str:
        """Changes whenever the item's bytes may have changed; part of every cache key."""
        return str(self.attributes["generation"])

    def checksums(self, path: str) -> list[int] | None:
        """The crc32c of every chunk of an array without shards, in C order; None for others."""
        found = self.attributes.get("checksums")
        listed = found.get(path) if isinstance(found, Mapping) else None
        return listed if isinstance(listed, list) else None

    def group_document(self) -> dict[str, JSON]:
        """The group's attributes, without consolidated metadata."""
        return group_metadata({**self.user_attributes, MARKER: self.attributes})

    def to_document(self) -> dict[str, JSON]:
        """The item's ``zarr.json``."""
        return {
            **self.group_document(),
            "consolidated_metadata": consolidated(_with_empty_children(self.documents)),
        }


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """What the root says: its items by name, and the user's own root attributes."""

    items: Mapping[str, ItemRecord]
    user_attributes: Mapping[str, Any] = field(default_factory=dict)


def _with_empty_children(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, JSON]:
    """Documents as zarr-python consolidates them: each group carries an empty index of its own."""
    return {
        path: {**document, "consolidated_metadata": consolidated({})}
        if document["node_type"] == "group"
        else document
        for path, document in documents.items()
    }


def _bare(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "consolidated_metadata"}


def parse_document(content: bytes, key: str) -> dict[str, Any]:
    """A ``zarr.json``.

    Raises
    ------
    DamagedStoreError
        If it is no JSON object.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedStoreError(f"{key} is damaged: it is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise DamagedStoreError(f"{key} is damaged: it holds a {type(document).__name__}, not an object")
    return document


def read_document(location: Location, key: str) -> dict[str, Any] | None:
    """A ``zarr.json``, or None where there is none."""
    try:
        return parse_document(location.read(key, MAX_METADATA_BYTES), key)
    except FileNotFoundError:
        return None


def item_from_document(name: str, document: Mapping[str, Any]) -> ItemRecord | None:
    """The record in an item's own ``zarr.json``; None if it is no item of ours."""
    attributes = document.get("attributes")
    record = attributes.get(MARKER) if isinstance(attributes, Mapping) else None
    if not isinstance(record, Mapping) or "generation" not in record:
        return None
    check_format(record.get("format"), f"item {name!r}")
    entry = document.get("consolidated_metadata")
    metadata = entry.get("metadata") if isinstance(entry, Mapping) else None
    if not isinstance(metadata, Mapping):
        raise DamagedStoreError(f"{name}/{METADATA} is damaged: it lists no arrays")
    assert isinstance(attributes, Mapping)
    return ItemRecord(
        name,
        record,
        {path: _bare(child) for path, child in metadata.items()},
        {key: value for key, value in attributes.items() if key != MARKER},
    )


def read_item(location: Location, name: str) -> ItemRecord | None:
    """A committed item from its own ``zarr.json``, checked against its manifest.

    Raises
    ------
    DamagedStoreError
        If its attributes or arrays are not those that were committed.
    """
    document = read_document(location, f"{name}/{METADATA}")
    record = None if document is None else item_from_document(name, document)
    if record is not None:
        check_item(location, record)
    return record


def check_item(location: Location, record: ItemRecord) -> None:
    """Compare an item's attributes and array documents with its manifest's hashes."""
    root = read_root(location, record.name, record.attributes)
    if attributes_sha256(record.attributes) != root.attributes_sha256:
        raise DamagedStoreError(
            f"item {record.name!r}: its lazystore attributes were altered after the commit; "
            "change them with 'lazystore set', or convert it again with --overwrite"
        )
    found = {path: sha256_of_json(document) for path, document in record.documents.items()}
    if found != root.documents:
        wrong = sorted(
            path for path in {*found, *root.documents} if found.get(path) != root.documents.get(path)
        )
        raise DamagedStoreError(
            f"item {record.name!r}: metadata of {', '.join(wrong)} was altered after the commit; "
            "run 'lazystore verify', or convert it again with --overwrite"
        )


def _index_sha256(items: list[str], metadata: Mapping[str, Any]) -> str:
    return sha256_of_json({"items": items, "metadata": metadata})


def parents_of(name: str) -> list[str]:
    """Groups above a nested item: "a/b/c" -> ["a", "a/b"]."""
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def root_document(index: StoreIndex) -> dict[str, JSON]:
    """The root's ``zarr.json`` over its items."""
    metadata: dict[str, Any] = {}
    for record in index.items.values():
        for parent in parents_of(record.name):
            metadata[parent] = group_metadata({})
        metadata[record.name] = record.group_document()
        for path, document in record.documents.items():
            metadata[f"{record.name}/{path}"] = document
    full = _with_empty_children(metadata)
    names = sorted(index.items)
    marker: dict[str, JSON] = {
        "format": format_record(),
        "items": names,
        "index_sha256": _index_sha256(names, full),
    }
    return {
        **group_metadata({**index.user_attributes, MARKER: marker}),
        "consolidated_metadata": consolidated(full),
    }


def parse_root(location: Location, document: Mapping[str, Any]) -> StoreIndex | None:
    """The index in a root's ``zarr.json``; None if the store is not ours.

    Raises
    ------
    DamagedStoreError
        If neither the root's copy nor the items' own records can be trusted.
    """
    attributes = document.get("attributes")
    marker = attributes.get(MARKER) if isinstance(attributes, Mapping) else None
    if not isinstance(marker, Mapping) or not isinstance(attributes, Mapping):
        return None
    check_format(marker.get("format"), location.url)
    names = marker.get("items")
    if names is None and "kind" in marker:
        raise StoreError(
            f"{location.url} is an item of a store, not a store; open the folder above it and take the item "
            "by its name"
        )
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DamagedStoreError(f"{location.url}/{METADATA} is damaged: its list of items is {names!r}")
    user = {key: value for key, value in attributes.items() if key != MARKER}
    entry = document.get("consolidated_metadata")
    metadata = entry.get("metadata") if isinstance(entry, Mapping) else None
    if isinstance(metadata, Mapping) and marker.get("index_sha256") == _index_sha256(names, metadata):
        return StoreIndex({name: _item_of_root(name, metadata) for name in names}, user)
    # Another program rewrote the root, or a bit flipped: the items' own records decide.
    items = {}
    for name in names:
        record = read_item(location, name)
        if record is None:
            raise DamagedStoreError(
                f"{location.url}: the root lists item {name!r}, which is not there; "
                "run 'lazystore verify' to see what is damaged"
            )
        items[name] = record
    return StoreIndex(items, user)


def items_of_root(document: Mapping[str, Any]) -> tuple[dict[str, ItemRecord], dict[str, Any], bool]:
    """The root's copy as far as it can be understood: items, the user's attributes, and whether it is whole.

    For repairs: what is not whole is a guess, to be compared with the items' manifests.
    """
    attributes = document.get("attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    marker = attributes.get(MARKER)
    user = {key: value for key, value in attributes.items() if key != MARKER}
    entry = document.get("consolidated_metadata")
    metadata = entry.get("metadata") if isinstance(entry, Mapping) else None
    names = marker.get("items") if isinstance(marker, Mapping) else None
    if not isinstance(names, list) or not isinstance(metadata, Mapping):
        return {}, user, False
    items = {}
    for name in names:
        with contextlib.suppress(KeyError, TypeError, AttributeError, StoreError):
            items[name] = _item_of_root(name, metadata)
    assert isinstance(marker, Mapping)
    return items, user, marker.get("index_sha256") == _index_sha256(names, metadata)


def _item_of_root(name: str, metadata: Mapping[str, Any]) -> ItemRecord:
    attributes = metadata[name]["attributes"]
    check_format(attributes[MARKER].get("format"), f"item {name!r}")
    prefix = f"{name}/"
    return ItemRecord(
        name,
        attributes[MARKER],
        {
            path[len(prefix) :]: _bare(document)
            for path, document in metadata.items()
            if path.startswith(prefix)
        },
        {key: value for key, value in attributes.items() if key != MARKER},
    )


def read_index(location: Location) -> StoreIndex | None:
    """The store's index; None where there is no store of ours.

    Raises
    ------
    DamagedStoreError, FormatVersionError
        As `parse_root`.
    """
    document = read_document(location, METADATA)
    return None if document is None else parse_root(location, document)


def write_json(target: Writable, key: str, document: Mapping[str, JSON]) -> None:
    """Write a document in its canonical spelling."""
    target.write(key, [canonical_json(document)])


def update_root(location: Location, *, add: list[str], remove: list[str]) -> None:
    """Rebuild the root from the items' own records; the caller holds the root lock.

    Raises
    ------
    StoreError
        If the output is a Zarr store of somebody else.
    """
    document = read_document(location, METADATA)
    index = StoreIndex({})
    if document is not None:
        found = parse_root(location, document)
        if found is None:
            raise StoreError(
                f"{location.url} is a Zarr store that lazystore did not write; choose another output"
            )
        index = found
    names = (set(index.items) | set(add)) - set(remove)
    # Who was killed in here left a half-written file; none but the lock's holder can own one now.
    delete_partials = getattr(location, "delete_partials", lambda folder: None)
    for folder in {"", *(parent for name in names for parent in parents_of(name))}:
        delete_partials(folder)
    items: dict[str, ItemRecord] = {}
    for name in sorted(names):
        record = read_item(location, name) if name in add else index.items[name]
        if record is not None:
            items[name] = record
            for parent in parents_of(name):
                if read_document(location, f"{parent}/{METADATA}") is None:
                    write_json(location, f"{parent}/{METADATA}", group_metadata({}))
    write_json(location, METADATA, root_document(StoreIndex(items, index.user_attributes)))
