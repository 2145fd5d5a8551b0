"""Lazy arrays over stored chunks: numpy's manners, xarray's labels, and nothing read by accident."""

from lazystore.array.labels import Coordinate, Coordinates, regular_values, whole_array
from lazystore.array.lazy_array import LazyArray
from lazystore.array.statistics import Counts, Statistics, StoredStatistics

__all__ = [
    "Coordinate",
    "Coordinates",
    "Counts",
    "LazyArray",
    "Statistics",
    "StoredStatistics",
    "regular_values",
    "whole_array",
]
