"""Zarr v2 and v3 stores of others: their arrays, found without trusting them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lazystore.errors import DamagedStoreError, HostileStoreError, StoreError
from lazystore.protocols import ChunkReader
from lazystore.schema import MAX_METADATA_BYTES
from lazystore.store.index import parse_document
from lazystore.store.location import LocalLocation, Location

# Above these a tree is a trap, not a recording.
MAX_ARRAYS = 10_000
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class ForeignTree:
    """A store of somebody else.

    Attributes
    ----------
    arrays
        A reader of each array by its path below the root; ``""`` where the root is an array. Each
        reader's `spec` tells dims, shape, dtype, chunks and attributes. Chunks that are absent hold
        the fill value, as Zarr means it: nobody promised that all would be stored.
    attributes
        Attributes of each group by path.
    problems
        One line for each array that is not read, and why.
    """

    arrays: Mapping[str, ChunkReader]
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Node:
    """A group or an array: its document, and its attributes where v2 keeps them apart."""

    path: str
    document: Mapping[str, Any]
    attributes: Mapping[str, Any]
    is_array: bool


def open_foreign(location: Location) -> ForeignTree:
    """The arrays of a Zarr v2 or v3 store that lazystore did not write; reads metadata only.

    Raises
    ------
    StoreError
        If there is no Zarr array or group there.
    HostileStoreError
        If there are more than 10,000 arrays or 32 levels, or the only array asks for what no honest
        one needs.
    DamagedStoreError
        If its metadata is no JSON.
    """
    from lazystore.store.fallback import ZarrPythonReader

    arrays: dict[str, ChunkReader] = {}
    attributes: dict[str, Mapping[str, Any]] = {}
    problems: list[str] = []
    for node in _nodes(location):
        if not node.is_array:
            attributes[node.path] = node.attributes
            continue
        try:
            arrays[node.path] = ZarrPythonReader(
                location, node.path, node.document, attributes=node.attributes, fill_absent=True
            )
        except StoreError as error:
            if node.path == "":
                raise
            problems.append(str(error))
        if len(arrays) + len(problems) > MAX_ARRAYS:
            raise HostileStoreError(f"{location.url} holds more than {MAX_ARRAYS} arrays; open a part of it")
    return ForeignTree(arrays, attributes, tuple(problems))


def _nodes(location: Location) -> Iterator[_Node]:
    root = _read_node(location, "")
    if root is None:
        folder = getattr(location, "root", None)
        if folder is not None and not folder.exists():
            raise StoreError(f"there is no store {location.url}: no such folder")
        if folder is not None and folder.is_file():
            raise StoreError(f"{location.url} is a file, not a store; lazystore.convert makes a store of it")
        raise StoreError(
            f"{location.url} holds no Zarr array or group; expected a zarr.json, .zgroup or .zarray"
        )
    yield root
    if root.is_array:
        return
    entry = root.document.get("consolidated_metadata") if root.document.get("zarr_format") == 3 else None
    if isinstance(entry, Mapping) and isinstance(entry.get("metadata"), Mapping):
        yield from _consolidated_v3(entry["metadata"])
    elif root.document.get("zarr_format") == 2 and (merged := _read_json(location, ".zmetadata")) is not None:
        yield from _consolidated_v2(merged)
    else:
        yield from _walk(location, "", 1)


def _consolidated_v3(metadata: Mapping[str, Any]) -> Iterator[_Node]:
    for path, document in metadata.items():
        if isinstance(document, Mapping) and document.get("node_type") in ("array", "group"):
            yield _v3_node(_checked_path(path), document)


def _consolidated_v2(merged: Mapping[str, Any]) -> Iterator[_Node]:
    metadata = merged.get("metadata")
    if not isinstance(metadata, Mapping):
        raise DamagedStoreError(".zmetadata is damaged: it lists no arrays")
    for key, document in metadata.items():
        path, _, name = key.rpartition("/")
        if path and name in (".zarray", ".zgroup") and isinstance(document, Mapping):
            attributes = metadata.get(f"{path}/.zattrs")
            yield _Node(
                _checked_path(path),
                document,
                attributes if isinstance(attributes, Mapping) else {},
                name == ".zarray",
            )


def _checked_path(path: str) -> str:
    if path.count("/") >= MAX_DEPTH:
        raise HostileStoreError(f"{path[:80]!r} lies deeper than {MAX_DEPTH} levels")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise HostileStoreError(f"{path!r} is no path inside a store")
    return path


def _walk(location: Location, parent: str, depth: int) -> Iterator[_Node]:
    """Groups and arrays below a group; never looks inside an array."""
    for name in _folders(location, parent):
        path = f"{parent}/{name}" if parent else name
        node = _read_node(location, path)
        if node is None:
            continue
        if depth > MAX_DEPTH:
            raise HostileStoreError(f"{location.url} is deeper than {MAX_DEPTH} levels; open a part of it")
        yield node
        if not node.is_array:
            yield from _walk(location, path, depth + 1)


def _folders(location: Location, path: str) -> list[str]:
    """Names of the folders in a folder, sorted; links are left out."""
    if isinstance(location, LocalLocation):
        with os.scandir(location.path(path) if path else location.root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    folders = getattr(location, "folders", None)
    if folders is not None:
        return sorted(folders(path))
    prefix = f"{path}/" if path else ""
    return sorted(
        {key[len(prefix) :].split("/")[0] for key in location.list(prefix) if "/" in key[len(prefix) :]}
    )


def _read_json(location: Location, key: str) -> dict[str, Any] | None:
    try:
        return parse_document(location.read(key, MAX_METADATA_BYTES), key)
    except FileNotFoundError:
        return None


def _v3_node(path: str, document: Mapping[str, Any]) -> _Node:
    attributes = document.get("attributes")
    return _Node(
        path,
        document,
        attributes if isinstance(attributes, Mapping) else {},
        document.get("node_type") == "array",
    )


def _read_node(location: Location, path: str) -> _Node | None:
    head = f"{path}/" if path else ""
    document = _read_json(location, f"{head}zarr.json")
    if document is not None:
        return _v3_node(path, document)
    for name in (".zarray", ".zgroup"):
        document = _read_json(location, f"{head}{name}")
        if document is not None:
            attributes = _read_json(location, f"{head}.zattrs") or {}
            return _Node(path, document, attributes, name == ".zarray")
    return None
