"""A location as zarr-python's store: read-only, no listing, sizes limited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from lazystore.errors import DamagedStoreError, HostileStoreError
from lazystore.schema import MAX_CHUNK_BYTES, MAX_METADATA_BYTES
from lazystore.store.location import Location

_METADATA_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class GuardedStore(Store):
    """What zarr-python may read of a location.

    Parameters
    ----------
    location
        Where the keys lie.
    absent_is_damage
        A key that is not there raises DamagedStoreError, where Zarr would fill in.
    """

    def __init__(self, location: Location, *, absent_is_damage: bool = False) -> None:
        super().__init__(read_only=True)
        self._location = location
        self._absent_is_damage = absent_is_damage

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GuardedStore) and (
            (other._location, other._absent_is_damage) == (self._location, self._absent_is_damage)
        )

    def __hash__(self) -> int:
        return id(self._location)

    def __repr__(self) -> str:
        return f"GuardedStore({self._location!r})"

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes:
        limit = MAX_METADATA_BYTES if key.rsplit("/", 1)[-1] in _METADATA_NAMES else MAX_CHUNK_BYTES
        if byte_range is None:
            return self._location.read(key, limit)
        if isinstance(byte_range, RangeByteRequest):
            start, length = byte_range.start, byte_range.end - byte_range.start
        elif isinstance(byte_range, SuffixByteRequest):
            start, length = None, byte_range.suffix
        else:
            start, length = byte_range.offset, self._location.size(key) - byte_range.offset
        if length > limit:
            raise HostileStoreError(f"{key}: {length} bytes in one read where at most {limit} are sensible")
        return (
            self._location.read_tail(key, length)
            if start is None
            else self._location.read_range(key, start, length)
        )

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        try:
            data = await asyncio.to_thread(self._read, key, byte_range)
        except FileNotFoundError:
            if self._absent_is_damage:
                raise DamagedStoreError(
                    f"{key!r} is missing from {self._location.url}; run `lazystore verify`"
                ) from None
            return None
        return prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        try:
            await asyncio.to_thread(self._location.size, key)
        except FileNotFoundError:
            return False
        return True

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return False

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError("a guarded store is read by key")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError("a guarded store is read by key")

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError("a guarded store is read by key")
