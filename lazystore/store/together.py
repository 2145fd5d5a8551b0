"""Several small arrays for the price of one: where each read is a round trip, all are under way at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from lazystore.store.location import LocalLocation, Location

# A dozen packet tables or index columns; more would only queue at the server.
MAX_AT_ONCE = 16


def is_far(location: Location) -> bool:
    """Whether every read may cost a round trip: whatever is no folder of this machine.

    >>> is_far(LocalLocation("session.zarr"))
    False
    """
    return not isinstance(location, LocalLocation)


def read_together[Key, Result](
    location: Location, read: Callable[[Key], Result], keys: Iterable[Key]
) -> dict[Key, Result]:
    """What `read` gives for each key, in their order; on threads where the location is far.

    From a server 50 ms away the eight arrays of an event index take 60 ms, one after the other 510 ms. From
    a disk threads would cost more than they gain.

    Raises
    ------
    Exception
        The first error of a read, in the order of the keys.
    """
    wanted = list(keys)
    if len(wanted) < 2 or not is_far(location):
        return {key: read(key) for key in wanted}
    with ThreadPoolExecutor(min(len(wanted), MAX_AT_ONCE), thread_name_prefix="lazystore-read") as pool:
        return dict(zip(wanted, pool.map(read, wanted), strict=True))
