"""A store is plain Zarr: written here with lazystore, read with xarray alone."""

from __future__ import annotations

import xarray as xr

import lazystore as ls


def main() -> None:
    ls.convert("fields.npy", "fields.zarr", rate_hz=25.0)
    with xr.open_datatree("fields.zarr", engine="zarr") as tree:
        field = tree["fields/data"]
        print(field.sel(time=slice(1.0, 2.0)).mean("time").shape)
        print("largest value of the first frames:", tree["fields/stats/max"].values[:3])


if __name__ == "__main__":
    main()
