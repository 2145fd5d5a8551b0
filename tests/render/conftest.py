"""Environments of every layout, and painting with and without a compiled loop."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lazystore.render import kernels

LOOKUP: NDArray[np.uint8] = np.random.default_rng(7).integers(0, 256, (256, 3), dtype=np.uint8)


def grid_environment(shape: tuple[int, ...], mask: NDArray[np.bool_] | None) -> Any:
    """What both packages ask of an environment on a grid; None for a mask means every bin is there."""
    n_bins = int(np.prod(shape)) if mask is None else int(np.count_nonzero(mask))
    layout = SimpleNamespace(is_grid_compatible=True, grid_shape=shape, active_mask=mask)
    return SimpleNamespace(n_bins=n_bins, layout=layout)


@pytest.fixture(scope="session")
def environments() -> dict[str, Any]:
    """Real neurospatial environments, one for each layout."""
    import networkx
    from neurospatial import Environment
    from shapely.geometry import Polygon

    rng = np.random.default_rng(0)
    mask = rng.random((7, 11)) < 0.6
    edges = (np.arange(8.0), np.arange(12.0))
    walk = np.cumsum(rng.normal(size=(400, 3)), axis=0)
    graph = networkx.Graph()
    graph.add_node(0, pos=(0.0, 0.0))
    graph.add_node(1, pos=(30.0, 0.0))
    graph.add_edge(0, 1, distance=30.0, edge_id=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # neurospatial's advice on bin sizes
        return {
            "masked": Environment.from_grid_mask(mask, grid_edges=edges),
            "walked": Environment.from_samples(walk[:, :2], bin_size=4.0),
            "hexagons": Environment.from_samples(walk[:, :2], bin_size=4.0, layout="Hexagonal"),
            "three-d": Environment.from_samples(walk, bin_size=8.0),
            "polygon": Environment.from_polygon(Polygon([(0, 0), (20, 0), (20, 9), (4, 14)]), bin_size=2.0),
            "track": Environment.from_graph(graph, edge_order=[(0, 1)], edge_spacing=0.0, bin_size=2.0),
        }


@pytest.fixture(params=["numpy", "compiled"])
def painting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of painting: before numba has compiled the loops, and after."""
    if request.param == "numpy":
        monkeypatch.setattr(kernels, "compiled", lambda kind: None)
    else:
        kernels.warm()
        assert all(kernels.compiled(kind) is not None for kind in kernels.KINDS)
    return str(request.param)
