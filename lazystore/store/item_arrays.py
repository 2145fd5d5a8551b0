"""A whole small array of an item: a coordinate, a statistic, text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.schema import spec_from_metadata
from lazystore.store.direct import DirectChunkReader, read_array, read_text
from lazystore.store.index import ItemRecord
from lazystore.store.location import Location


def load_array(location: Location, record: ItemRecord, path: str) -> NDArray[Any]:
    """The array's values; a `partial` of it pickles.

    Raises
    ------
    DamagedStoreError
        If its bytes are missing or altered.
    HostileStoreError
        If it is larger than a small array may be.
    """
    prefix = f"{record.name}/{path}"
    spec = spec_from_metadata(path, record.documents[path])
    checksums = record.checksums(path)
    if spec.is_text:
        return read_text(location, prefix, spec, checksums=checksums)
    reader = DirectChunkReader(location, prefix, spec, generation=record.generation, checksums=checksums)
    try:
        return np.asarray(read_array(reader))
    finally:
        reader.close()
