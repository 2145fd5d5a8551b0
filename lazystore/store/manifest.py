"""The list of every file an item consists of, in pages, with size and hashes.

A reader opens an item without it; `verify` and `overwrite` read it page by page. It lies below the
item's first array, because an array is a leaf: plain Zarr never lists what is inside one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import batched
from typing import Any

from lazystore.errors import DamagedStoreError
from lazystore.schema import JSON, MAX_METADATA_BYTES, canonical_json, sha256_of_json
from lazystore.store.location import Location, Writable

ENTRIES_A_PAGE = 16_384


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its key below the item, its size in bytes, its hashes."""

    key: str
    size: int
    crc32c: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ManifestRoot:
    """The manifest's first page, which names the others."""

    key: str
    sha256: str
    pages: tuple[Entry, ...]
    documents: Mapping[str, str]
    attributes_sha256: str
    n_entries: int
    n_bytes: int

    def reference(self) -> dict[str, JSON]:
        """What the item's ``zarr.json`` says of its manifest."""
        return {"key": self.key, "sha256": self.sha256}


def attributes_sha256(attributes: Mapping[str, JSON]) -> str:
    """Hash of `attrs.lazystore` without its `manifest` entry, which cannot hold its own hash."""
    return sha256_of_json({key: value for key, value in attributes.items() if key != "manifest"})


def write_manifest(
    target: Writable,
    item: str,
    folder: str,
    entries: Iterable[Entry],
    documents: Mapping[str, JSON],
    attributes: Mapping[str, JSON],
) -> ManifestRoot:
    """Write pages and root.

    Parameters
    ----------
    folder
        Key below the item under which the manifest goes.
    entries
        Every data file of the item, in a fixed order.
    documents
        ``zarr.json`` documents below the item by path, the item's own left out.
    attributes
        The item's `attrs.lazystore`.
    """
    pages, n_entries, n_bytes = [], 0, 0
    for number, batch in enumerate(batched(entries, ENTRIES_A_PAGE)):
        content = canonical_json([[e.key, e.size, e.crc32c, e.sha256] for e in batch])
        digest = hashlib.sha256(content).hexdigest()
        key = f"{folder}/page-{number:05d}-{digest[:12]}.json"
        target.write(f"{item}/{key}", [content])
        pages.append(Entry(key, len(content), 0, digest))
        n_entries += len(batch)
        n_bytes += sum(entry.size for entry in batch)
    return write_root(
        target,
        item,
        folder,
        tuple(pages),
        {path: sha256_of_json(document) for path, document in documents.items()},
        attributes,
        n_entries,
        n_bytes,
    )


def write_root(
    target: Writable,
    item: str,
    folder: str,
    pages: tuple[Entry, ...],
    documents: Mapping[str, str],
    attributes: Mapping[str, JSON],
    n_entries: int,
    n_bytes: int,
) -> ManifestRoot:
    """Write a root over pages that exist."""
    attributes_hash = attributes_sha256(attributes)
    content = canonical_json(
        {
            "pages": [[page.key, page.size, page.sha256] for page in pages],
            "documents": dict(documents),
            "attributes_sha256": attributes_hash,
            "n_entries": n_entries,
            "n_bytes": n_bytes,
        }
    )
    digest = hashlib.sha256(content).hexdigest()
    key = f"{folder}/root-{digest[:12]}.json"
    target.write(f"{item}/{key}", [content])
    return ManifestRoot(key, digest, pages, documents, attributes_hash, n_entries, n_bytes)


def _read_hashed(location: Location, key: str, sha256: str) -> Any:
    try:
        content = location.read(key, MAX_METADATA_BYTES)
    except FileNotFoundError:
        raise DamagedStoreError(f"manifest file {key} is missing; its item cannot be verified") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedStoreError(f"manifest file {key} was altered: its sha256 is not {sha256[:12]}…")
    return json.loads(content)


def read_root(location: Location, item: str, attributes: Mapping[str, Any]) -> ManifestRoot:
    """The manifest's root that an item's `attrs.lazystore` names.

    Raises
    ------
    DamagedStoreError
        If it is missing or its hash is another.
    """
    reference = attributes.get("manifest")
    if not isinstance(reference, Mapping):
        raise DamagedStoreError(f"item {item!r} names no manifest; it cannot be verified")
    key, sha256 = str(reference["key"]), str(reference["sha256"])
    content = _read_hashed(location, f"{item}/{key}", sha256)
    return ManifestRoot(
        key,
        sha256,
        tuple(Entry(page[0], page[1], 0, page[2]) for page in content["pages"]),
        content["documents"],
        content["attributes_sha256"],
        content["n_entries"],
        content["n_bytes"],
    )


def read_entries(location: Location, item: str, root: ManifestRoot) -> Iterator[Entry]:
    """Every data file of the item, page by page.

    Raises
    ------
    DamagedStoreError
        If a page is missing or altered.
    """
    for page in root.pages:
        for key, size, checksum, sha256 in _read_hashed(location, f"{item}/{page.key}", page.sha256):
            yield Entry(key, size, checksum, sha256)
