"""The reductions that a lazy array offers as methods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lazystore.array.ranges import Bracket, percentile_brackets, smallest_and_largest
from lazystore.array.reduce import Request, axes_of, reduce
from lazystore.array.view import View
from lazystore.errors import UsageError


class Reductions:
    """mean, sum, min, max, var, std, range of any size, read chunk by chunk on threads."""

    __slots__ = ()

    view: View

    def _reduce(self, operation: str, dim: Any, axis: Any, request: Request, skip_missing: bool) -> Any:
        if dim is not None and axis is not None:
            raise UsageError(f"{operation}: dim={dim!r} and axis={axis!r} were both given; pass one of them")
        axes = axes_of(self.view.dims, axis if dim is None else dim)
        return reduce(self.view, replace(request, operation=operation, axes=axes), skip_missing=skip_missing)

    def mean(
        self,
        dim: Any = None,
        *,
        axis: Any = None,
        keepdims: bool = False,
        skipna: bool = False,
        skip_missing: bool = False,
    ) -> Any:
        """Mean over axes by name or number (all, if none), in float64, read chunk by chunk.

        Parameters
        ----------
        dim, axis
            Name, number, or a tuple of them; either word.
        keepdims
            Keep reduced axes with size 1.
        skipna
            Leave NaN out; else NaN gives NaN, as in numpy.
        skip_missing
            Leave out frames that the recording lost; a result for each frame is NaN there (integers become
            floats). Else they raise.

        Returns
        -------
        np.ndarray
            Over the axes that are left, or a numpy scalar.

        Raises
        ------
        MissingFrameError
            If a frame is missing and `skip_missing` is False.
        UsageError
            For an unknown axis, values that cannot be added, both `dim` and `axis`.
        """
        return self._reduce("mean", dim, axis, Request(keepdims=keepdims, skipna=skipna), skip_missing)

    def sum(
        self,
        dim: Any = None,
        *,
        axis: Any = None,
        keepdims: bool = False,
        skipna: bool = False,
        skip_missing: bool = False,
    ) -> Any:
        """Sum over axes; integers exactly in 64 bits, the rest in float64. Arguments as for `mean`."""
        return self._reduce("sum", dim, axis, Request(keepdims=keepdims, skipna=skipna), skip_missing)

    def min(
        self,
        dim: Any = None,
        *,
        axis: Any = None,
        keepdims: bool = False,
        skipna: bool = False,
        skip_missing: bool = False,
    ) -> Any:
        """Smallest value over axes, in the data's dtype. Arguments as for `mean`."""
        return self._reduce("min", dim, axis, Request(keepdims=keepdims, skipna=skipna), skip_missing)

    def max(
        self,
        dim: Any = None,
        *,
        axis: Any = None,
        keepdims: bool = False,
        skipna: bool = False,
        skip_missing: bool = False,
    ) -> Any:
        """Largest value over axes, in the data's dtype. Arguments as for `mean`."""
        return self._reduce("max", dim, axis, Request(keepdims=keepdims, skipna=skipna), skip_missing)

    def var(
        self,
        dim: Any = None,
        *,
        axis: Any = None,
        ddof: float = 0,
        keepdims: bool = False,
        skipna: bool = False,
        skip_missing: bool = False,
    ) -> Any:
        """Variance over axes, divided by n - `ddof`, in float64. Other arguments as for `mean`."""
        request = Request(keepdims=keepdims, skipna=skipna, ddof=ddof)
        return self._reduce("var", dim, axis, request, skip_missing)

    def std(
        self,
        dim: Any = None,
        *,
        axis: Any = None,
        ddof: float = 0,
        keepdims: bool = False,
        skipna: bool = False,
        skip_missing: bool = False,
    ) -> Any:
        """Standard deviation over axes, divided by n - `ddof`, in float64. Other arguments as for `mean`."""
        request = Request(keepdims=keepdims, skipna=skipna, ddof=ddof)
        return self._reduce("std", dim, axis, request, skip_missing)

    def range(self, percentile: tuple[float, float] | None = None, *, exact: bool = False) -> Bracket:
        """Smallest and largest finite value, or two percentiles of the finite values.

        Parameters
        ----------
        percentile
            Two numbers from 0 to 100, in numpy's linear definition. Exact for 8- and 16-bit data.
            For wider data the range given encloses them, by the bounds of the levels they lie in.
        exact
            Read on until the percentiles of wider data are exact.

        Returns
        -------
        tuple
            Low and high, Python numbers; NaN where nothing is finite. Missing frames do not count.

        Notes
        -----
        Reads no frame where the store's statistics cover the view; else one pass over it.

        Raises
        ------
        UsageError
            For a percentile outside 0 to 100, or values without an order.
        """
        if percentile is None:
            return smallest_and_largest(self.view)
        low, high = self.range_bounds(percentile, exact=exact)
        return low[0], high[1]

    def range_bounds(
        self, percentile: tuple[float, float], *, exact: bool = False
    ) -> tuple[Bracket, Bracket]:
        """For each of two percentiles, the (low, high) between which it lies; equal where it is exact."""
        if not isinstance(percentile, tuple | list) or len(percentile) != 2:
            raise UsageError(f"percentile={percentile!r}; expected two numbers, such as (1, 99)")
        low, high = percentile_brackets(self.view, tuple(percentile), exact=exact)
        return low, high
