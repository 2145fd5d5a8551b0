"""NetCDF and Zarr variables as sources, opened by xarray (a bare Zarr array by zarr itself)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lazystore.errors import MissingExtraError, SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.arrays.hierarchical import HDF5_MAGIC
from lazystore.sources.arrays.labelled import LabelledSource
from lazystore.sources.frames import ARRAY_KINDS, RATE_OPTION
from lazystore.sources.identity import identify_file, identify_folder
from lazystore.sources.memory import ArraySource, choose_variable
from lazystore.sources.options import Option

CLASSIC_MAGICS = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_VARIABLE_OPTION = Option("variable", "text", "name of the variable that is the recording")
_GROUP_OPTION = Option("group", "text", "path of the group that holds the variable")


class NetcdfFormat:
    """NetCDF 3 and 4; packed values are unpacked as xarray does it."""

    name = "netcdf"
    kinds = ARRAY_KINDS
    extensions = (".nc", ".nc4", ".cdf", ".netcdf")
    options = (_VARIABLE_OPTION, _GROUP_OPTION, RATE_OPTION)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by the classic magic, or HDF5 with a NetCDF ending or the library's own mark."""
        if head.startswith(CLASSIC_MAGICS):
            return Recognition(True, "NetCDF 3")
        if head.startswith(HDF5_MAGIC) and (
            path.name.lower().endswith(self.extensions) or b"_NCProperties" in head
        ):
            return Recognition(True, "NetCDF 4")
        return None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The chosen variable."""
        import xarray as xr

        with path.open("rb") as file:
            is_classic = file.read(4).startswith(CLASSIC_MAGICS)
        dataset = None
        # h5netcdf and netCDF4 read in blocks; scipy maps the file, and comes last.
        for engine in ("netcdf4", "scipy") if is_classic else ("h5netcdf", "netcdf4"):
            if engine not in xr.backends.list_engines():
                continue
            try:
                dataset = xr.open_dataset(
                    path,
                    engine=engine,
                    group=options.get("group"),
                    cache=False,
                    decode_timedelta=False,
                )
                break
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{path.name!r} is no readable NetCDF file: {error}") from error
        if dataset is None:
            package = "scipy" if is_classic else "h5netcdf"
            raise MissingExtraError(
                f"format 'netcdf' needs {package!r}, which is missing; pip install {package}"
            )
        try:
            array = dataset[choose_variable(dataset, options.get("variable"), repr(path.name))]
            source = LabelledSource(
                array,
                path.name,
                identify_file(path),
                self.name,
                kind=options.get("kind"),
                rate_hz=options.get("rate_hz"),
                closer=dataset,
            )
        except BaseException:
            dataset.close()
            raise
        return [source]


class ZarrFormat:
    """A Zarr folder, version 2 or 3: a bare array, or a group whose variable is chosen."""

    name = "zarr"
    kinds = ARRAY_KINDS
    extensions = (".zarr",)
    options = (_VARIABLE_OPTION, _GROUP_OPTION, RATE_OPTION)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by the metadata file in the folder."""
        return Recognition(True, "Zarr") if _node_type(path) is not None else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The chosen variable, with its coordinates where the store names its dimensions."""
        import zarr

        folder = path / options["group"] if "group" in options else path
        node = _node_type(folder)
        if node is None:
            raise SourceError(f"{str(folder)!r} has no Zarr metadata; expected zarr.json, .zgroup or .zarray")
        kind, rate_hz = options.get("kind"), options.get("rate_hz")
        identity = identify_folder(folder)
        wanted = options.get("variable")
        try:
            if node == "array":
                return [ArraySource(zarr.open_array(str(folder), mode="r"), kind=kind, rate_hz=rate_hz,
                                    format_name=self.name, identity=identity)]  # fmt: skip
            dataset = _open_labelled(folder)
            if dataset is not None:
                array = dataset[choose_variable(dataset, wanted, repr(path.name))]
                return [LabelledSource(array, path.name, identity, self.name, kind=kind, rate_hz=rate_hz)]
            group = zarr.open_group(str(folder), mode="r")
            plain = group[_choose_plain(group, wanted, path.name)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path.name!r} is no readable Zarr store: {error}") from error
        return [ArraySource(plain, kind=kind, rate_hz=rate_hz, format_name=self.name, identity=identity)]


def _node_type(folder: Path) -> str | None:
    """``"array"``, ``"group"`` or None, from the metadata file alone."""
    if (folder / ".zarray").is_file():
        return "array"
    if (folder / ".zgroup").is_file():
        return "group"
    try:
        document = json.loads((folder / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return None
    node = document.get("node_type") if isinstance(document, dict) else None
    return node if node in ("array", "group") else None


def _is_consolidated(folder: Path) -> bool:
    if (folder / ".zmetadata").is_file():
        return True
    path = folder / "zarr.json"
    return path.is_file() and bool(json.loads(path.read_bytes()).get("consolidated_metadata"))


def _open_labelled(folder: Path) -> Any:
    """The folder as an xarray Dataset; None where its arrays do not name their dimensions."""
    import xarray as xr

    try:
        return xr.open_dataset(
            folder,
            engine="zarr",
            # Said outright: left to itself xarray warns about every store without it.
            consolidated=_is_consolidated(folder),
            cache=False,
            decode_timedelta=False,
        )
    except (KeyError, ValueError):
        return None


def _choose_plain(group: Any, wanted: str | None, name: str) -> str:
    arrays = {key: array for key, array in sorted(group.arrays()) if array.ndim}
    shown = ", ".join(f"{key} {array.shape} {array.dtype}" for key, array in arrays.items()) or "none"
    groups = ", ".join(sorted(key for key, _ in group.groups()))
    if groups:
        shown += f"; groups: {groups}"
    candidates = [wanted] if wanted in arrays else [key for key, array in arrays.items() if array.ndim >= 2]
    if len(candidates) != 1 or (wanted is not None and wanted not in arrays):
        raise SourceError(
            f"{name!r} does not say which array is the recording; it has: {shown}; "
            "say which with the options group=PATH and variable=NAME"
        )
    return str(candidates[0])


NETCDF = NetcdfFormat()
ZARR = ZarrFormat()
