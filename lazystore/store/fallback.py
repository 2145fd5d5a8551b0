"""Arrays of any other layout, read by zarr-python behind guards of ours.

zarr-python never gets near a file or a codec by itself: keys go through a read-only store over our
location, compressed bytes through decoders with a bound, and its metadata was checked before.
Loaded when first needed: zarr-python takes a second to import.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.core.array import AsyncArray
from zarr.core.buffer import Buffer
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.storage import StorePath

from lazystore.chunks import ChunkIndex, chunk_region, grid_shape
from lazystore.errors import DamagedStoreError, HostileStoreError, LazystoreError, StoreError
from lazystore.schema import ArraySpec, Codec, is_plain_dtype
from lazystore.store.bounded import BOUNDED_CODECS, decompress_bounded
from lazystore.store.foreign_metadata import ForeignLayout, check_foreign_document, check_item_bytes
from lazystore.store.guarded_store import GuardedStore
from lazystore.store.location import Location

# Text has no size that metadata could tell: what a coordinate may take at most.
MAX_TEXT_CHUNK_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class _BoundedV3Codec(BytesBytesCodec):
    """A compressor of a v3 array that stops at a bound; decodes only."""

    inner: BytesBytesCodec
    name: str
    max_bytes: int
    exact_bytes: int | None
    is_fixed_size = False

    def to_dict(self) -> dict[str, Any]:
        return dict(self.inner.to_dict())

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: Any) -> Buffer:
        data = decompress_bounded(self.name, chunk_bytes.to_bytes(), self.max_bytes, self.exact_bytes)
        buffer: Buffer = chunk_spec.prototype.buffer.from_bytes(data)
        return buffer

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: Any) -> Buffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)


class _BoundedV2Codec:
    """A compressor of a v2 array that stops at a bound; decodes only."""

    def __init__(self, inner: Any, max_bytes: int, exact_bytes: int | None) -> None:
        self.codec_id = inner.codec_id
        self._inner = inner
        self._bounds = max_bytes, exact_bytes

    def get_config(self) -> dict[str, Any]:
        return dict(self._inner.get_config())

    @classmethod
    def from_config(cls, config: Any) -> Any:
        raise NotImplementedError("made from another codec only")

    def encode(self, buf: Any) -> Any:
        raise NotImplementedError("a foreign array is only read")

    def decode(self, buf: Any, out: Any = None) -> Any:
        data = decompress_bounded(self.codec_id, np.asarray(buf).tobytes(), *self._bounds)
        return np.frombuffer(data, np.uint8)


def _bounded_metadata(document: Mapping[str, Any], layout: ForeignLayout, path: str) -> Any:
    """zarr-python's record of an array, every compressor in it replaced by a bounded one."""
    metadata: Any
    try:
        with warnings.catch_warnings():
            # zarr-python warns of codecs and data types outside the specification. Those that are
            # read are on our list; the writer, not this reader, could choose others.
            warnings.simplefilter("ignore")
            if document["zarr_format"] == 3:
                metadata = ArrayV3Metadata.from_dict(dict(document))
            else:
                metadata = ArrayV2Metadata.from_dict(dict(document))
            native = metadata.dtype.to_native_dtype()
    except Exception as error:  # whatever zarr-python makes of a malformed document
        raise StoreError(f"array {path!r} has metadata that zarr-python cannot read ({error})") from error
    check_item_bytes(path, layout, native.itemsize)
    is_text = native.kind in "OT"
    max_bytes = MAX_TEXT_CHUNK_BYTES if is_text else layout.max_decoded_bytes(native.itemsize)

    def bounded_v3(codecs: Sequence[Any]) -> tuple[Any, ...]:
        exact_bytes = _exact_bytes(codecs, layout, native, is_text)
        bounded = []
        for codec in codecs:
            name = str(codec.to_dict()["name"]).removeprefix("numcodecs.")
            if isinstance(codec, ShardingCodec):
                codec = replace(codec, codecs=bounded_v3(codec.codecs))
            elif name in BOUNDED_CODECS:
                codec = _BoundedV3Codec(codec, name, max_bytes, exact_bytes)
            bounded.append(codec)
        return tuple(bounded)

    def bounded_v2(codec: Any) -> Any:
        if codec is None or codec.codec_id not in BOUNDED_CODECS:
            return codec
        exact_bytes = None if is_text or metadata.filters else _chunk_bytes(layout, native)
        return _BoundedV2Codec(codec, max_bytes, exact_bytes)

    # The records are frozen, and made anew they would parse the codecs from JSON again.
    if document["zarr_format"] == 3:
        object.__setattr__(metadata, "codecs", bounded_v3(metadata.codecs))
    else:
        object.__setattr__(metadata, "compressor", bounded_v2(metadata.compressor))
        if metadata.filters:
            object.__setattr__(metadata, "filters", tuple(map(bounded_v2, metadata.filters)))
    return metadata


def _chunk_bytes(layout: ForeignLayout, native: np.dtype[Any]) -> int:
    return int(np.prod(layout.chunks, dtype=object)) * native.itemsize


def _exact_bytes(
    codecs: Sequence[Any], layout: ForeignLayout, native: np.dtype[Any], is_text: bool
) -> int | None:
    """What a lone compressor must unfold to; None where filters or a second one change the size."""
    kinds = [isinstance(codec, BytesBytesCodec) for codec in codecs]
    names = [codec.to_dict()["name"] for codec in codecs]
    plain = all(
        name in ("bytes", "endian", "transpose") for name, kind in zip(names, kinds, strict=True) if not kind
    )
    first = names[kinds.index(True)] if True in kinds else None
    n_compressors = sum(str(name).removeprefix("numcodecs.") in BOUNDED_CODECS for name in names)
    alone = n_compressors == 1 and str(first).removeprefix("numcodecs.") in BOUNDED_CODECS
    return _chunk_bytes(layout, native) if plain and alone and not is_text else None


class ZarrPythonReader:
    """Decoded chunks of an array of any layout on our list, through zarr-python.

    Parameters
    ----------
    location, prefix
        Where the store lies, and the array's key in it.
    document
        The array's ``zarr.json``, or its ``.zarray``, as parsed JSON.
    attributes
        For v2, whose attributes lie in ``.zattrs``.
    fill_absent
        Zarr's own meaning of a chunk that is not there: the fill value. Right for stores of others,
        which leave out chunks on purpose; False (the default) makes an absent file damage. An inner
        chunk that is absent from a shard that exists is filled either way.
    generation
        Of the item, for caches above this reader.

    Raises
    ------
    StoreError
        If the array has a codec, data type or grid that is not read.
    HostileStoreError
        If it declares sizes beyond every limit.

    Notes
    -----
    Thread-safe; every read blocks, for 0.5 ms and more. Chunks are read-only. Text comes as dtype
    ``U``. Pickles by its document.
    """

    def __init__(
        self,
        location: Location,
        prefix: str,
        document: Mapping[str, Any],
        *,
        attributes: Mapping[str, Any] | None = None,
        fill_absent: bool = False,
        generation: str = "",
    ) -> None:
        self.location = location
        self.prefix = prefix
        self.generation = generation
        self._document = dict(document)
        self._attributes = dict(document.get("attributes") or {} if attributes is None else attributes)
        self._fill_absent = fill_absent
        layout = check_foreign_document(prefix, document)
        metadata = _bounded_metadata(document, layout, prefix)
        store = GuardedStore(location, absent_is_damage=not fill_absent)
        self._array: Any = zarr.Array(AsyncArray(metadata=metadata, store_path=StorePath(store, prefix)))
        self._spec = _spec(prefix, metadata, layout, self._attributes)

    @property
    def spec(self) -> ArraySpec:
        return self._spec

    def __repr__(self) -> str:
        return f"ZarrPythonReader({self.location!r}, {self.prefix!r}, shape={self._spec.shape})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            self.location, self.prefix, self._document, self._attributes, self._fill_absent, self.generation,
        )  # fmt: skip

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """One chunk, cut at the array's end, read-only.

        Raises
        ------
        DamagedStoreError
            If it cannot be decoded, or is absent and `fill_absent` is False.
        HostileStoreError
            If it unfolds to more than the array declares, or its file is a link.
        IndexError
            If there is no such chunk.
        """
        spec = self._spec
        grid = grid_shape(spec.shape, spec.chunks)
        if len(chunk_index) != len(grid) or not all(
            0 <= index < size for index, size in zip(chunk_index, grid, strict=True)
        ):
            raise IndexError(f"chunk {chunk_index!r} lies outside the {grid} chunks of array {self.prefix!r}")
        try:
            values = np.asarray(self._array[chunk_region(chunk_index, spec.chunks, spec.shape)])
            chunk = _as_text(values) if spec.is_text else values.astype(spec.dtype, order="C", copy=False)
        except BaseException as error:
            raise self._as_ours(error, chunk_index) from error
        chunk.flags.writeable = False
        return chunk

    def _as_ours(self, error: BaseException, chunk_index: ChunkIndex) -> BaseException:
        """An error of ours for what zarr-python raised; interrupts stay what they are."""
        found = error
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if not isinstance(found, Exception):
            return error
        where = f"array {self.prefix!r}, chunk {tuple(chunk_index)}"
        if isinstance(found, LazystoreError):
            return type(found)(f"{where}: {found}")
        return DamagedStoreError(f"{where} cannot be read by zarr-python ({found!r:.200})")

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Several chunks in the order asked for, one after the other."""
        return [self.read_chunk(chunk_index) for chunk_index in chunk_indices]

    def close(self) -> None:
        """Nothing is kept open."""


def _rebuild(
    location: Location,
    prefix: str,
    document: dict[str, Any],
    attributes: dict[str, Any],
    fill_absent: bool,
    generation: str,
) -> ZarrPythonReader:
    return ZarrPythonReader(
        location, prefix, document, attributes=attributes, fill_absent=fill_absent, generation=generation
    )


def _as_text(values: NDArray[Any]) -> NDArray[np.str_]:
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    longest = max((len(str(text)) for text in values.ravel()), default=0)
    if values.size * longest * 4 > MAX_TEXT_CHUNK_BYTES:
        raise HostileStoreError(
            f"{values.size} texts of up to {longest} characters would take more than "
            f"{MAX_TEXT_CHUNK_BYTES} bytes"
        )
    return np.array([str(text) for text in values.ravel()], f"U{max(1, longest)}").reshape(values.shape)


def _spec(path: str, metadata: Any, layout: ForeignLayout, attributes: Mapping[str, Any]) -> ArraySpec:
    """The record of a foreign array. Its codec says "none": only zarr-python knows the real ones."""
    native = metadata.dtype.to_native_dtype()
    if native.kind in "OTUS":
        native = np.dtype("U")
    elif is_plain_dtype(native) or native.kind in "mM":
        native = native.newbyteorder("=")
    else:
        raise StoreError(f"array {path!r} has data type {native}, which is not read; see the documentation")
    named = getattr(metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS") or ()
    if not isinstance(named, (list, tuple)) or len(named) != len(layout.shape):
        named = [None] * len(layout.shape)
    dims = [name if isinstance(name, str) and name else f"dim_{axis}" for axis, name in enumerate(named)]
    if len(set(dims)) != len(dims):
        dims = [f"dim_{axis}" for axis in range(len(dims))]
    return ArraySpec(
        path=path,
        dims=tuple(dims),
        shape=layout.shape,
        dtype=native,
        chunks=layout.chunks,
        shards=layout.shards,
        codec=Codec("none", 0),
        attributes=dict(attributes),
    )
