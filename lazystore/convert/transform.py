"""The affine from pixels to world units that an item may carry."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lazystore.errors import SourceError, UsageError
from lazystore.schema import JSON
from lazystore.units import parse_unit

CALIBRATION_KEY = "transform_px_to_cm"


def read_transform(transform: Any, corner_px: tuple[int, int] = (0, 0)) -> dict[str, JSON]:
    """The `transform` entry of ``attrs.lazystore``.

    Parameters
    ----------
    transform
        A matrix of shape (2, 3) or (3, 3) that takes (x, y, 1) in pixels to world units, the y
        flip included; a mapping ``{"matrix": ..., "units": "cm"}``; a video calibration object or
        its dictionary (centimetres); or a file that holds one of these: ``.json``, ``.npy``, or
        text with one row a line.
    corner_px
        (x, y) of a crop's corner: the matrix is for the whole frame, the item holds a part of it.

    Returns
    -------
    dict
        ``{"matrix": [[a, b, c], [d, e, f]], "units": ...}``.

    Raises
    ------
    SourceError
        If the file is missing or cannot be read.
    UsageError
        If it is no invertible affine.

    >>> read_transform({"matrix": [[0.5, 0, 0], [0, -0.5, 240]], "units": "cm"})
    {'matrix': [[0.5, 0.0, 0.0], [0.0, -0.5, 240.0]], 'units': 'cm'}
    >>> read_transform([[2, 0, 0], [0, 2, 0]], corner_px=(10, 0))["matrix"]
    [[2.0, 0.0, 20.0], [0.0, 2.0, 0.0]]
    """
    if isinstance(transform, str | os.PathLike):
        transform = _read_file(Path(transform))
    units = "px"
    calibration = getattr(transform, CALIBRATION_KEY, None)
    if calibration is not None:
        transform, units = getattr(calibration, "A", calibration), "cm"
    elif isinstance(transform, Mapping):
        if CALIBRATION_KEY in transform:
            transform, units = transform[CALIBRATION_KEY], "cm"
        elif "matrix" in transform:
            transform, units = transform["matrix"], str(transform.get("units", "px"))
    matrix = _affine(transform)
    for row in matrix:
        row[2] += row[0] * corner_px[0] + row[1] * corner_px[1]
    return {"matrix": matrix, "units": parse_unit(units).symbol}


def _affine(matrix: Any) -> list[list[float]]:
    try:
        values = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"transform {matrix!r} is no matrix of numbers; expected 2 x 3 or 3 x 3") from error
    if values.shape == (3, 3) and not np.allclose(values[2], (0, 0, 1)):
        raise UsageError(f"transform's last row is {values[2].tolist()}; an affine's is [0, 0, 1]")
    if values.shape not in ((2, 3), (3, 3)) or not np.isfinite(values).all():
        raise UsageError(f"transform of shape {values.shape} is no finite affine; expected 2 x 3 or 3 x 3")
    if abs(np.linalg.det(values[:2, :2])) < 1e-12:
        raise UsageError(f"transform {values[:2].tolist()} cannot be inverted; check its scales")
    rows: list[list[float]] = values[:2].tolist()
    return rows


def _read_file(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        text = path.read_text()
        if path.suffix.lower() == ".json":
            return json.loads(text)
        return [
            [float(cell) for cell in line.replace(",", " ").split()]
            for line in text.splitlines()
            if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise SourceError(
            f"cannot read a transform from {str(path)!r} ({error}); expected .json, .npy, or rows of numbers"
        ) from error
