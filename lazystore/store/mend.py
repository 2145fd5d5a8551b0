"""What a store's metadata should say, worked out from what is left of it; nothing here writes.

Most of it is there twice: an item's ``zarr.json`` holds its arrays' documents, and the root's copy
holds the items'. Whichever agrees with the item's manifest is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lazystore.errors import DamagedStoreError, LazystoreError
from lazystore.schema import JSON, MAX_METADATA_BYTES, canonical_json, group_metadata, sha256_of_json
from lazystore.store.index import (
    MARKER,
    METADATA,
    ItemRecord,
    StoreIndex,
    check_item,
    item_from_document,
    items_of_root,
    parents_of,
    parse_document,
    root_document,
)
from lazystore.store.location import Location
from lazystore.store.manifest import attributes_sha256, read_root


@dataclass(frozen=True, slots=True)
class Patch:
    """A file of metadata that is missing or wrong, and what belongs there."""

    key: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Mended:
    """The items whose metadata is sound, or would be with the patches; one line for each other one."""

    items: Mapping[str, ItemRecord]
    patches: tuple[Patch, ...]
    lost: tuple[str, ...]


def mended_metadata(location: Location) -> Mended:
    """What is sound of a store's metadata, and what would make the rest so.

    Attributes of the user's own are taken from the item's document, or else from the root's copy;
    no hash says whether they are right.
    """
    root = _document(location, METADATA)
    copies, user_attributes, is_whole = items_of_root(root or {})
    # A root that cannot be trusted names no items either: then they are looked for.
    names = sorted(copies) if is_whole else sorted({*copies, *_names_of_items(location)})
    items: dict[str, ItemRecord] = {}
    patches: list[Patch] = []
    lost: list[str] = []
    for name in names:
        own = _own_record(location, name)
        candidates = [record for record in (own, copies.get(name)) if record is not None]
        for candidate in candidates:
            manifest = _manifest_patch(location, candidate)
            if manifest is not None and (manifest.content == b"" or _is_right(candidate, manifest)):
                user = candidates[0].user_attributes
                items[name] = replace(candidate, user_attributes=user)
                patches += [manifest] if manifest.content else []
                break
        else:
            lost.append(
                f"item {name!r}: neither its {METADATA}, nor the root's copy, agrees with its manifest; "
                "convert it again with --overwrite"
            )
    for name, record in items.items():
        patches += _document_patches(location, name, record)
    # An item that is lost stays in a root that names it: nobody shall think it never was.
    if not (lost and is_whole):
        bare, copied = ({name: _bare(item) for name, item in of.items()} for of in (items, copies))
        is_right = is_whole and bare == copied
        if not is_right or not _agrees(root, root_document(StoreIndex(copies, user_attributes))):
            patches.append(Patch(METADATA, canonical_json(root_document(StoreIndex(items, user_attributes)))))
    return Mended(items, tuple(patches), tuple(lost))


def _bare(record: ItemRecord) -> ItemRecord:
    return replace(record, user_attributes={})


def _agrees(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    return found is not None and canonical_json(dict(found)) == canonical_json(dict(wanted))


def _document(location: Location, key: str) -> dict[str, Any] | None:
    """A document, or None where there is none that can be read."""
    try:
        return parse_document(location.read(key, MAX_METADATA_BYTES), key)
    except (OSError, LazystoreError):
        return None


def _own_record(location: Location, name: str) -> ItemRecord | None:
    with contextlib.suppress(LazystoreError, AssertionError, AttributeError, TypeError):
        document = _document(location, f"{name}/{METADATA}")
        return None if document is None else item_from_document(name, document)
    return None


def _names_of_items(location: Location) -> Iterator[str]:
    for key in location.list():
        name, slash, file_name = key.rpartition("/")
        if slash and file_name == METADATA:
            attributes = (_document(location, key) or {}).get("attributes")
            marker = attributes.get(MARKER) if isinstance(attributes, Mapping) else None
            if isinstance(marker, Mapping) and "manifest" in marker:
                yield name


def _document_patches(location: Location, name: str, record: ItemRecord) -> Iterator[Patch]:
    wanted: dict[str, Mapping[str, Any]] = {
        f"{parent}/{METADATA}": group_metadata({}) for parent in parents_of(name)
    }
    wanted |= {f"{name}/{path}/{METADATA}": document for path, document in record.documents.items()}
    # Last, because it is what makes an item.
    wanted[f"{name}/{METADATA}"] = record.to_document()
    for key, document in wanted.items():
        if not _agrees(_document(location, key), document):
            yield Patch(key, canonical_json(dict(document)))


def _manifest_patch(location: Location, record: ItemRecord) -> Patch | None:
    """A patch of the manifest's root: without content where it needs none, None where it is lost."""
    try:
        read_root(location, record.name, record.attributes)
    except (KeyError, TypeError):
        return None
    except DamagedStoreError:
        return _root_from_pages(location, record)
    with contextlib.suppress(DamagedStoreError):
        check_item(location, record)
        return Patch("", b"")
    return None


def _root_from_pages(location: Location, record: ItemRecord) -> Patch | None:
    """The manifest's root, made again from its pages; the hash that the item names will tell."""
    reference = record.attributes.get("manifest")
    if not isinstance(reference, Mapping) or not isinstance(reference.get("key"), str):
        return None
    key = str(reference["key"])
    folder = key.rpartition("/")[0]
    pages: list[JSON] = []
    n_entries = n_bytes = 0
    for page in sorted(location.list(f"{record.name}/{folder}/")):
        name = page.rpartition("/")[2]
        if not name.startswith("page-"):
            continue
        try:
            content = location.read(page, MAX_METADATA_BYTES)
            entries = json.loads(content)
            n_bytes += sum(entry[1] for entry in entries)
        except (OSError, LazystoreError, ValueError, TypeError, IndexError):
            return None
        n_entries += len(entries)
        digest = hashlib.sha256(content).hexdigest()
        pages.append([f"{folder}/{name}", len(content), digest])
    root: dict[str, JSON] = {
        "pages": pages,
        "documents": {path: sha256_of_json(document) for path, document in record.documents.items()},
        "attributes_sha256": attributes_sha256(record.attributes),
        "n_entries": n_entries,
        "n_bytes": n_bytes,
    }
    return Patch(f"{record.name}/{key}", canonical_json(root))


def _is_right(record: ItemRecord, manifest: Patch) -> bool:
    wanted: str = record.attributes["manifest"]["sha256"]
    return hashlib.sha256(manifest.content).hexdigest() == wanted
