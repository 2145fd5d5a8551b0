"""A whole small array of an item: a coordinate, a statistic, text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import DamagedStoreError
from lazystore.schema import UnfamiliarLayoutError, spec_from_metadata
from lazystore.store.direct import DirectChunkReader, read_array, read_text
from lazystore.store.index import ItemRecord
from lazystore.store.location import Location


def load_array(location: Location, record: ItemRecord, path: str) -> NDArray[Any]:
    """The array's values; a `partial` of it pickles.

    Raises
    ------
    DamagedStoreError
        If its bytes are missing or altered, or its layout is none of lazystore's.
    HostileStoreError
        If it is larger than a small array may be.
    """
    prefix = f"{record.name}/{path}"
    try:
        spec = spec_from_metadata(path, record.documents[path])
    except UnfamiliarLayoutError as error:
        raise DamagedStoreError(
            f"item {record.name!r}: {error}, which is not how lazystore lays it out; run 'lazystore verify'"
        ) from error
    checksums = record.checksums(path)
    if spec.is_text:
        return read_text(location, prefix, spec, checksums=checksums)
    reader = DirectChunkReader(location, prefix, spec, generation=record.generation, checksums=checksums)
    try:
        return np.asarray(read_array(reader))
    finally:
        reader.close()
