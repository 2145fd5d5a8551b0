"""A zarr-python store object, seen as a location: whatever zarr can reach, we can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from lazystore.errors import DamagedStoreError, StoreError


class ZarrStoreLocation:
    """A location over a `zarr.abc.store.Store`.

    Parameters
    ----------
    store
        Any zarr-python 3 store: memory, zip, fsspec, obstore. Whoever passes one vouches for where
        it reads.

    Notes
    -----
    Each call waits for zarr's event loop, which costs about 0.1 ms; pass a path where there is one.
    Pickles where the store does.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def url(self) -> str:
        return str(self._store)

    def __repr__(self) -> str:
        return f"ZarrStoreLocation({self._store!r})"

    def _get(self, key: str, byte_range: Any = None) -> bytes:

        value = sync(self._store.get(key, default_buffer_prototype(), byte_range))
        if value is None:
            raise FileNotFoundError(key)
        return bytes(value.to_bytes())

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and (size := self.size(key)) > max_bytes:
            raise DamagedStoreError(f"{key}: {size} bytes where at most {max_bytes} are sensible")
        return self._get(key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:

        size = self.size(key)
        if length <= 0 or offset >= size:
            return b""
        return self._get(key, RangeByteRequest(offset, min(size, offset + length)))

    def read_tail(self, key: str, length: int) -> bytes:

        return self._get(key, SuffixByteRequest(length)) if length > 0 else b""

    def size(self, key: str) -> int:

        return int(sync(self._store.getsize(key)))

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:

        if self._store.read_only:
            raise StoreError(f"{self.url} is open for reading only; open it in another mode to write {key!r}")
        value = default_buffer_prototype().buffer.from_bytes(b"".join(parts))
        sync(self._store.set(key, value))

    def delete(self, key: str) -> None:

        if self._store.read_only:
            raise StoreError(
                f"{self.url} is open for reading only; open it in another mode to delete {key!r}"
            )
        sync(self._store.delete(key))

    def list(self, prefix: str = "") -> Iterator[str]:

        async def collect() -> list[str]:
            return [key async for key in self._store.list_prefix(prefix)]

        yield from sorted(sync(collect()))

    def folders(self, prefix: str) -> set[str]:
        """Names one level below a folder's key; plain keys may be among them."""

        async def collect() -> set[str]:
            return {name.rstrip("/") async for name in self._store.list_dir(prefix)}

        return sync(collect())
