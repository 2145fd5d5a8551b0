"""Convert a video and an event recording with different clocks, and look at both at the same second."""

from __future__ import annotations

import lazystore as ls


def main() -> None:
    ls.convert("mouse.mp4", "session.zarr", clock=12.5)
    ls.convert("drone.h5", "session.zarr", clock=12.75)
    with ls.open("session.zarr") as session:
        for second in (12.8, 13.0, 13.2):
            frame = session["mouse"].sel(time=second, method="nearest")
            events = session["drone"].window(second, second + 1 / 30, unit="s")
            print(f"{second:5.2f} s: mean brightness {frame.mean():6.2f}, {len(events)} events")


if __name__ == "__main__":
    main()
