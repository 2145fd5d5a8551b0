"""Brightness over time of a whole stack and of a region, with and without reading its frames."""

from __future__ import annotations

import numpy as np

import lazystore as ls


def main() -> None:
    ls.convert("cells.tif", "cells.zarr", rate_hz=20.0)
    with ls.open("cells.zarr") as store:
        cells = store["cells"]
        whole = cells.mean(("y", "x"))  # from the statistics
        region = cells[:, 8:24, 10:30].mean(("y", "x"))  # reads, in bounded memory
        brightest = int(np.argmax(whole))
        time_s = cells.coords["time"][brightest]
        print(f"brightest at {time_s:.2f} s: {whole[brightest]:.1f}, region {region[brightest]:.1f}")


if __name__ == "__main__":
    main()
