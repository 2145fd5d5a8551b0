"""Event counts in space and time as an xarray object, a window at a time."""

from __future__ import annotations

import lazystore as ls


def main() -> None:
    ls.convert("drone.h5", "drone.zarr")
    with ls.open("drone.zarr") as store:
        events = store["drone"]
        print(f"{len(events):,} events of a sensor of {events.sensor[0]} x {events.sensor[1]}")
        counts = events.frames(period=100_000, mode="count").to_xarray()
        print(counts.dims, counts.shape)
        print("events in each tenth of a second:", counts.sum(("y", "x")).values.tolist())


if __name__ == "__main__":
    main()
