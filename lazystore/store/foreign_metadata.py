"""What a Zarr document of somebody else may ask for, checked before zarr-python sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazystore.errors import HostileStoreError, StoreError
from lazystore.schema import MAX_CHUNK_BYTES, MAX_DIMENSIONS, MAX_METADATA_BYTES
from lazystore.store.bounded import BOUNDED_CODECS

# numcodecs' own names; the Zarr v3 names that zarr-python registers for them have a prefix.
_FILTERS = frozenset({"shuffle", "delta", "bitround", "fixedscaleoffset", "quantize", "packbits", "astype"})
_CHECKSUMS = frozenset({"crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"})
ALLOWED_V2 = BOUNDED_CODECS | _FILTERS | _CHECKSUMS | {"vlen-utf8"}
ALLOWED_V3 = (
    frozenset({"bytes", "endian", "transpose", "crc32c", "vlen-utf8", "blosc", "zstd", "gzip"})
    | {f"numcodecs.{name}" for name in BOUNDED_CODECS | _FILTERS | _CHECKSUMS}
)  # fmt: skip
SHARDING = "sharding_indexed"
# A filter may store wider numbers than the array declares (a u1 kept as f8).
_WIDEST_ITEM_BYTES = 16
_SLACK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ForeignLayout:
    """What the guards need to know of one array.

    Attributes
    ----------
    shape, chunks
        Of the array, and of what one decode gives (the inner chunk where there are shards).
    shards
        Shape of one file where it holds several chunks; else None.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None

    def max_decoded_bytes(self, item_bytes: int) -> int:
        """Most bytes that any one step of decoding a chunk may give."""
        widest = max(item_bytes, _WIDEST_ITEM_BYTES)
        return min(math.prod(self.chunks) * widest + _SLACK_BYTES, MAX_CHUNK_BYTES + _SLACK_BYTES)


def check_foreign_document(path: str, document: Mapping[str, Any]) -> ForeignLayout:
    """Refuse what no honest array asks for, and what is not read at all.

    Parameters
    ----------
    path
        The array's path, for errors.
    document
        Its ``zarr.json``, or its ``.zarray``.

    Raises
    ------
    HostileStoreError
        Above 16 dimensions, 512 MiB in one decoded chunk, or a million chunks in a shard.
    StoreError
        If it uses a codec, data type or chunk grid outside the list of those that are read, or is
        malformed.
    """
    try:
        if document["zarr_format"] == 2:
            layout = _check_v2(document)
        elif document["zarr_format"] == 3:
            layout = _check_v3(document)
        else:
            raise _NotReadError(f"Zarr format {document['zarr_format']!r}")
    except _NotReadError as error:
        raise StoreError(f"array {path!r} has {error}, which is not read; see the documentation") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise StoreError(f"array {path!r} has malformed metadata ({error!r})") from error
    _check_sizes(path, layout)
    return layout


class _NotReadError(Exception):
    """Names what is outside the list."""


def check_item_bytes(path: str, layout: ForeignLayout, item_bytes: int) -> None:
    """Refuse chunks above 512 MiB, once the data type is known.

    Raises
    ------
    HostileStoreError
        If one decoded chunk is larger.
    """
    n_bytes = math.prod(layout.chunks) * max(1, item_bytes)
    if n_bytes > MAX_CHUNK_BYTES:
        raise HostileStoreError(
            f"array {path!r} declares a chunk of {n_bytes} bytes; at most {MAX_CHUNK_BYTES} are read"
        )


def _check_sizes(path: str, layout: ForeignLayout) -> None:
    if len(layout.shape) > MAX_DIMENSIONS:
        raise HostileStoreError(
            f"array {path!r} declares {len(layout.shape)} dimensions; at most {MAX_DIMENSIONS} are read"
        )
    check_item_bytes(path, layout, 1)
    if layout.shards is not None:
        n_chunks = math.prod(
            shard // chunk for shard, chunk in zip(layout.shards, layout.chunks, strict=True)
        )
        if n_chunks > MAX_METADATA_BYTES // 16:
            raise HostileStoreError(
                f"array {path!r} declares {n_chunks} chunks in a shard; at most {MAX_METADATA_BYTES // 16} "
                "are read"
            )


def _sizes(values: Any, minimum: int) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(type(size) is int and minimum <= size < 2**62 for size in sizes):
        raise ValueError(f"sizes {values!r:.80}")
    return sizes


def _check_v2(document: Mapping[str, Any]) -> ForeignLayout:
    codecs = [document.get("compressor"), *(document.get("filters") or ())]
    names = [codec["id"] for codec in codecs if codec is not None]
    for name in names:
        if name not in ALLOWED_V2:
            raise _NotReadError(f"codec {name!r}")
    dtype = document["dtype"]
    if not isinstance(dtype, str):
        raise _NotReadError("a structured data type")
    if dtype[1:2] == "O" and names.count("vlen-utf8") != 1:
        raise _NotReadError("objects as data type")
    if dtype[1:2] not in tuple("biufcmMUSO"):
        raise _NotReadError(f"data type {dtype!r}")
    shape = _sizes(document["shape"], 0)
    chunks = _sizes(document["chunks"], 1)
    if len(shape) != len(chunks):
        raise ValueError("ranks differ")
    return ForeignLayout(shape, chunks, None)


def _names_of(codecs: Sequence[Any]) -> list[str]:
    return [codec if isinstance(codec, str) else codec["name"] for codec in codecs]


def _check_v3(document: Mapping[str, Any]) -> ForeignLayout:
    if document["node_type"] != "array":
        raise ValueError("not an array")
    if document.get("storage_transformers"):
        raise _NotReadError("storage transformers")
    grid = document["chunk_grid"]
    # A rectilinear grid may spell 10^12 edges in ten characters.
    if grid["name"] != "regular":
        raise _NotReadError(f"chunk grid {grid['name']!r}")
    codecs = document["codecs"]
    shape = _sizes(document["shape"], 0)
    chunks = _sizes(grid["configuration"]["chunk_shape"], 1)
    shards: tuple[int, ...] | None = None
    if SHARDING in _names_of(codecs):
        if len(codecs) != 1:
            raise _NotReadError("codecs around its shards")
        configuration = codecs[0]["configuration"]
        codecs = configuration["codecs"]
        shards, chunks = chunks, _sizes(configuration["chunk_shape"], 1)
        if any(shard % chunk for shard, chunk in zip(shards, chunks, strict=True)):
            raise ValueError("shards that are not whole chunks")
        for name in _names_of(configuration.get("index_codecs") or ()):
            if name not in ("bytes", "endian", "crc32c"):
                raise _NotReadError(f"codec {name!r} on a shard index")
    for name in _names_of(codecs):
        if name not in ALLOWED_V3:
            raise _NotReadError(f"codec {name!r}")
    data_type = document["data_type"]
    named = data_type if isinstance(data_type, str) else data_type["name"]
    if named in ("structured", "struct", "variable_length_bytes", "bytes") or str(named).startswith("r"):
        raise _NotReadError(f"data type {named!r}")
    if len(shape) != len(chunks):
        raise ValueError("ranks differ")
    return ForeignLayout(shape, chunks, shards)
