"""What a store holds, as frozen records, to and from Zarr v3 metadata.

The metadata is written and read here without zarr-python, whose import alone costs over a second;
tests prove both ways that zarr-python agrees with every document.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazystore.chunks import ceil_div
from lazystore.errors import FormatVersionError, HostileStoreError, UsageError

type JSON = None | bool | int | float | str | Sequence[JSON] | Mapping[str, JSON]

FORMAT_MAJOR = 1
FORMAT_MINOR = 0
# Features that a reader must know to read an item right; an item names those it needs.
KNOWN_REQUIREMENTS = frozenset({"encoded-video"})

MAX_METADATA_BYTES = 16 * 1024 * 1024
MAX_CHUNK_BYTES = 512 * 1024 * 1024
MAX_DIMENSIONS = 16

SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
CRC32C_BYTES = 4
# Before a shard's index: which shard this is, so that one in another's place is noticed.
SHARD_MARK_BYTES = 16


def canonical_json(document: JSON) -> bytes:
    """One spelling for equal documents: sorted keys, no white space, no NaN.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    ).encode()


def sha256_of_json(document: JSON) -> str:
    """Hex sha256 of the canonical spelling."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def format_record(requires: Sequence[str] = ()) -> dict[str, JSON]:
    """The `format` entry of an item or a store."""
    return {"major": FORMAT_MAJOR, "minor": FORMAT_MINOR, "requires": sorted(requires)}


def check_format(record: Any, where: str) -> None:
    """Refuse what this version cannot read right.

    Raises
    ------
    FormatVersionError
        If the record is malformed, of another major version, or needs an unknown feature.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("major"), int):
        raise FormatVersionError(
            f"{where}: format record {record!r} is not {{major, minor, requires}}; "
            "the metadata is damaged or not from lazystore"
        )
    if record["major"] != FORMAT_MAJOR:
        raise FormatVersionError(
            f"{where}: store format {record['major']} is not {FORMAT_MAJOR}; "
            "open it with the lazystore version that wrote it, or a newer one"
        )
    unknown = sorted(set(map(str, record.get("requires") or ())) - KNOWN_REQUIREMENTS)
    if unknown:
        raise FormatVersionError(
            f"{where}: requires {unknown}, which this version does not know; update lazystore"
        )


@dataclass(frozen=True, slots=True)
class Codec:
    """How an inner chunk is compressed: Blosc with one inner compressor, always under a crc32c.

    Attributes
    ----------
    cname
        ``"lz4"``, ``"lz4hc"`` or ``"zstd"``; ``"none"`` stores the bytes as they are.
    level
        Blosc level, 0 to 9.
    shuffle
        One of `SHUFFLES`.
    """

    cname: str = "zstd"
    level: int = 3
    shuffle: str = "noshuffle"

    def to_metadata(self, typesize: int) -> list[JSON]:
        """Zarr bytes-to-bytes codecs, crc32c last."""
        blosc: JSON = {
            "name": "blosc",
            "configuration": {
                "typesize": typesize,
                "cname": self.cname,
                "clevel": self.level,
                "shuffle": self.shuffle,
                "blocksize": 0,
            },
        }
        return [{"name": "crc32c"}] if self.cname == "none" else [blosc, {"name": "crc32c"}]


CODEC_PRESETS: dict[str, Codec] = {
    "none": Codec("none", 0),
    "fast": Codec("lz4", 5),
    "balanced": Codec("zstd", 3),
    "small": Codec("zstd", 8),
}


def is_plain_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether an array of this dtype is stored by number: bool, integers, floats, complex."""
    return dtype.kind in "biufc" and dtype.itemsize <= 16


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One stored array.

    Attributes
    ----------
    path
        Path inside its item: ``"data"``, ``"stats/min"``.
    dims, shape, dtype
        Dimension names, sizes, native dtype (``StringDType``-like text is dtype ``U``/object).
    chunks
        Inner chunk: the unit of decoding.
    shards
        Shard: the unit of writing, one file; None stores each chunk as a file of its own.
    codec
        Compression of the inner chunks.
    attributes
        What a plain xarray user sees; no NaN.
    separator
        Between the parts of a chunk's key. A rewrite of a small array flips it, so that new
        bytes never replace bytes that a reader of the old metadata may still ask for.
    """

    path: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    codec: Codec = Codec()
    attributes: Mapping[str, JSON] = field(default_factory=dict)
    separator: str = "/"

    @property
    def is_text(self) -> bool:
        """Whether the array holds str."""
        return self.dtype.kind in "UT"

    @property
    def write_shape(self) -> tuple[int, ...]:
        """Shape of what one file holds: the shard, or the chunk where there are no shards."""
        return self.shards if self.shards is not None else self.chunks

    @property
    def nbytes(self) -> int:
        """Decoded size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_nbytes(self) -> int:
        """Decoded size of one inner chunk in bytes."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def n_files(self) -> int:
        """Files of an array that is cut along axis 0 only, as all are that a conversion streams."""
        return ceil_div(self.shape[0], self.write_shape[0])

    def file_index(self, number: int) -> tuple[int, ...]:
        """Place of the `number`-th of these files.

        >>> ArraySpec("data", ("time", "bin"), (9, 2), np.dtype("u1"), (3, 2)).file_index(2)
        (2, 0)
        """
        return (number, *(0 for _ in self.shape[1:]))

    def key(self, file_index: Sequence[int]) -> str:
        """Key of one shard (or unsharded chunk) below the array's own key.

        >>> ArraySpec("data", ("time",), (9,), np.dtype("u1"), (3,)).key((2,))
        'c/2'
        """
        return self.separator.join(["c", *map(str, file_index)])

    def to_metadata(self) -> dict[str, JSON]:
        """The array's ``zarr.json``."""
        if self.is_text:
            codecs: list[JSON] = [{"name": "vlen-utf8"}, {"name": "crc32c"}]
            data_type = "string"
            fill_value: JSON = ""
        else:
            serializer: JSON = (
                {"name": "bytes"}
                if self.dtype.itemsize == 1
                else {"name": "bytes", "configuration": {"endian": "little"}}
            )
            codecs = [serializer, *self.codec.to_metadata(self.dtype.itemsize)]
            data_type = self.dtype.name
            fill_value = _fill_value(self.dtype)
        if self.shards is not None:
            codecs = [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": list(self.chunks),
                        "codecs": codecs,
                        "index_codecs": [
                            {"name": "bytes", "configuration": {"endian": "little"}},
                            {"name": "crc32c"},
                        ],
                        "index_location": "end",
                    },
                }
            ]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": data_type,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": list(self.write_shape)},
            },
            "chunk_key_encoding": {
                "name": "default",
                "configuration": {"separator": self.separator},
            },
            "fill_value": fill_value,
            "codecs": codecs,
            "attributes": dict(self.attributes),
            "dimension_names": list(self.dims),
            "storage_transformers": [],
        }


def _fill_value(dtype: np.dtype[Any]) -> JSON:
    if dtype.kind == "b":
        return False
    if dtype.kind == "c":
        return [0.0, 0.0]
    return 0.0 if dtype.kind == "f" else 0


def shard_mark(generation: str, path: str, key: str) -> bytes:
    """What tells a shard from every other: it lies before its index, where plain Zarr reads nothing.

    Parameters
    ----------
    generation, path, key
        Of the item; the array's path in it; the shard's key below the array.

    >>> len(shard_mark("0a", "data", "c/0")) == SHARD_MARK_BYTES
    True
    """
    named = "\n".join((generation, path, key)).encode()
    return hashlib.blake2b(named, digest_size=SHARD_MARK_BYTES).digest()


class UnfamiliarLayoutError(Exception):
    """An array laid out in a way the direct path does not know; zarr-python reads it instead."""


def spec_from_metadata(path: str, document: Mapping[str, Any]) -> ArraySpec:
    """The record of an array that the direct path can read.

    Raises
    ------
    UnfamiliarLayoutError
        If zarr-python should read it: other codecs, orders, key encodings, data types.
    HostileStoreError
        If its sizes are beyond every limit.
    """
    try:
        spec = _parse_array(path, document)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UnfamiliarLayoutError(f"array {path!r}: {error}") from error
    check_array_limits(spec)
    return spec


def check_array_limits(spec: ArraySpec) -> None:
    """Refuse sizes that no honest store has, before anything is allocated.

    Raises
    ------
    HostileStoreError
        Above 16 dimensions, above 512 MiB in one decoded chunk, or a negative size.
    """
    if len(spec.shape) > MAX_DIMENSIONS:
        raise HostileStoreError(
            f"array {spec.path!r} declares {len(spec.shape)} dimensions; at most {MAX_DIMENSIONS} are read"
        )
    if spec.chunk_nbytes > MAX_CHUNK_BYTES:
        raise HostileStoreError(
            f"array {spec.path!r} declares a chunk of {spec.chunk_nbytes} bytes; "
            f"at most {MAX_CHUNK_BYTES} are read"
        )


def _parse_array(path: str, document: Mapping[str, Any]) -> ArraySpec:
    if document["zarr_format"] != 3 or document["node_type"] != "array":
        raise ValueError("not a Zarr v3 array")
    if document.get("storage_transformers"):
        raise ValueError("storage transformers")
    shape = _sizes(document["shape"], minimum=0)
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise ValueError(f"chunk grid {grid['name']!r}")
    outer = _sizes(grid["configuration"]["chunk_shape"], minimum=1)
    encoding = document["chunk_key_encoding"]
    if encoding["name"] != "default":
        raise ValueError(f"chunk key encoding {encoding['name']!r}")
    separator = encoding.get("configuration", {}).get("separator", "/")
    if separator not in ("/", "."):
        raise ValueError(f"separator {separator!r}")
    codecs = document["codecs"]
    shards: tuple[int, ...] | None = None
    chunks = outer
    if codecs[0]["name"] == "sharding_indexed":
        if len(codecs) != 1:
            raise ValueError("codecs around shards")
        configuration = codecs[0]["configuration"]
        index_names = [codec["name"] for codec in configuration["index_codecs"]]
        little = configuration["index_codecs"][0].get("configuration", {}).get("endian")
        if index_names != ["bytes", "crc32c"] or little != "little":
            raise ValueError("shard index codecs")
        if configuration.get("index_location", "end") != "end":
            raise ValueError("shard index at the start")
        shards, chunks = outer, _sizes(configuration["chunk_shape"], minimum=1)
        if any(shard % chunk for shard, chunk in zip(shards, chunks, strict=True)):
            raise ValueError("shards that are not whole chunks")
        codecs = configuration["codecs"]
    if document["data_type"] == "string":
        if [codec["name"] for codec in codecs] != ["vlen-utf8", "crc32c"]:
            raise ValueError("text codecs")
        dtype, codec = np.dtype("U"), Codec("none", 0)
    else:
        dtype = np.dtype(str(document["data_type"]))
        if not is_plain_dtype(dtype) or dtype.name != document["data_type"]:
            raise ValueError(f"data type {document['data_type']!r}")
        codec = _parse_codecs(codecs, dtype)
    names = document.get("dimension_names") or [f"dim_{axis}" for axis in range(len(shape))]
    if not (len(names) == len(shape) == len(outer) == len(chunks)):
        raise ValueError("ranks differ")
    return ArraySpec(
        path=path,
        dims=tuple(str(name) for name in names),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        codec=codec,
        attributes=dict(document.get("attributes") or {}),
        separator=separator,
    )


def _sizes(values: Sequence[Any], *, minimum: int) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(type(size) is int and size >= minimum for size in sizes):
        raise ValueError(f"sizes {values!r}")
    return sizes


def _parse_codecs(codecs: Sequence[Mapping[str, Any]], dtype: np.dtype[Any]) -> Codec:
    names = [codec["name"] for codec in codecs]
    if names not in (["bytes", "blosc", "crc32c"], ["bytes", "crc32c"]):
        raise ValueError(f"codecs {names}")
    endian = codecs[0].get("configuration", {}).get("endian", "little")
    if dtype.itemsize > 1 and endian != "little":
        raise ValueError("big endian")
    if len(codecs) == 2:
        return Codec("none", 0)
    configuration = codecs[1]["configuration"]
    if configuration["shuffle"] not in SHUFFLES:
        raise ValueError(f"shuffle {configuration['shuffle']!r}")
    return Codec(str(configuration["cname"]), int(configuration["clevel"]), configuration["shuffle"])


def group_metadata(attributes: Mapping[str, JSON]) -> dict[str, JSON]:
    """A group's ``zarr.json``."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def consolidated(metadata: Mapping[str, JSON]) -> dict[str, JSON]:
    """The `consolidated_metadata` entry over path -> document, as zarr-python writes it."""
    return {
        "kind": "inline",
        "must_understand": False,
        "metadata": {path: metadata[path] for path in sorted(metadata)},
    }


_FORBIDDEN_CHARACTERS = set('<>:"\\|?*')
_RESERVED_NAMES = {"con", "prn", "aux", "nul"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)
}


def check_item_name(name: str) -> str:
    """An item name that every file system and bucket can hold.

    Raises
    ------
    UsageError
        If a part is empty, reserved, or holds a character that Windows or Zarr refuses.

    >>> check_item_name("day2/cam")
    'day2/cam'
    """
    for part in name.split("/"):
        problem = None
        if not part or part in (".", ".."):
            problem = "an empty or relative part"
        elif part.startswith("__") or part == "zarr.json":
            problem = "a name that Zarr keeps for itself"
        elif part != part.strip(" ") or part.endswith("."):
            problem = "a leading or trailing blank or dot"
        elif any(character in _FORBIDDEN_CHARACTERS or ord(character) < 32 for character in part):
            problem = "a character that Windows cannot hold"
        elif part.split(".")[0].casefold() in _RESERVED_NAMES:
            problem = "a name that Windows keeps for itself"
        elif len(part.encode()) > 200:
            problem = "more than 200 bytes in one part"
        if problem:
            raise UsageError(
                f"item name {name!r} has {problem}; pass another name (name= or --name), "
                "letters, digits, '-', '_' and '/' always work"
            )
    return name
