"""The compiled painting loops, and what happens until there are any."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from lazystore.render import kernels
from lazystore.render.colors import FieldPainter
from lazystore.render.layout import frame_layout

from .conftest import LOOKUP, grid_environment


@pytest.fixture
def unprepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nothing is compiled yet."""
    monkeypatch.setattr(kernels, "_ready", {})
    monkeypatch.setattr(kernels, "_compiling", {})
    monkeypatch.setattr(kernels, "_asked", set())


def painted(dtype: str) -> Any:
    painter = FieldPainter(frame_layout(grid_environment((3, 4), None)), LOOKUP, 0.1, 0.9)
    return painter.paint((np.arange(12) / 11).astype(dtype))


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_the_loop_over_floats_says_what_it_does_in_python(kind: str) -> None:
    """The source that numba compiles gives the same frames when Python runs it."""
    mask = np.array([[True, False, True], [True, True, True]])
    layout = frame_layout(grid_environment((2, 3), mask))
    painter = FieldPainter(layout, LOOKUP, 0.25, 0.75)
    values = np.random.default_rng(0).random((2, 5)).astype(kind)
    values[0, 0] = np.nan
    scalar = values.dtype.type
    out = np.empty(2 * 6 * 3, np.uint8)
    kernels.paint_values(
        values.ravel(), 5, scalar(0.25), scalar(0.5), scalar(0), scalar(1), scalar(255),
        painter._colors, layout.bin_of_pixel(), out,
    )  # fmt: skip
    np.testing.assert_array_equal(out.reshape(2, 3, 2, 3), painter.paint_block(values))


def test_the_loop_over_levels_says_what_it_does_in_python() -> None:
    """The same for values that are looked up by their bits."""
    mask = np.array([[True, False, True], [True, True, True]])
    layout = frame_layout(grid_environment((2, 3), mask))
    painter = FieldPainter(layout, LOOKUP, 10.0, 200.0)
    values = np.array([[0, 10, 99, 200, 255]], np.uint8)
    index_of_level = painter._learn(values.dtype).constants[0]
    out = np.empty(6 * 3, np.uint8)
    kernels.paint_levels(values.ravel(), 5, index_of_level, painter._colors, layout.bin_of_pixel(), out)
    np.testing.assert_array_equal(out.reshape(3, 2, 3), painter.paint(values[0]))


@pytest.mark.usefixtures("unprepared")
def test_the_first_frame_does_not_wait_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is painted by numpy while the loop is compiled; later frames use the loop and look the same."""
    go = threading.Event()
    build = kernels._build

    def slow_build(kind: kernels.Kind) -> Any:
        assert go.wait(60)
        return build(kind)

    monkeypatch.setattr(kernels, "_build", slow_build)
    first = painted("f8")
    assert kernels.compiled("f8") is None
    go.set()
    kernels.warm("f8")
    assert kernels.compiled("f8") is not None
    np.testing.assert_array_equal(painted("f8"), first)


@pytest.mark.usefixtures("unprepared")
def test_the_very_first_frame_starts_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would take turns with it; the second frame does."""
    built = []
    monkeypatch.setattr(kernels, "_build", lambda kind: built.append(kind) or kernels.paint_values)
    painted("f8")
    assert kernels._compiling == {}
    painted("f8")
    assert list(kernels._compiling) == ["f8"]
    kernels.warm("f8")
    assert built == ["f8"]


@pytest.mark.usefixtures("unprepared")
def test_many_threads_start_one_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten threads that ask at once compile a loop once."""
    built = []
    monkeypatch.setattr(kernels, "_build", lambda kind: built.append(kind) or kernels.paint_levels)
    barrier = threading.Barrier(10)

    def ask() -> None:
        barrier.wait()
        kernels.compiled("u1")

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kernels.warm("u1")
    assert built == ["u1"]


@pytest.mark.usefixtures("unprepared")
def test_a_compiler_that_fails_leaves_numpy_painting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing breaks and the reason is in the log, once."""

    def broken(kind: kernels.Kind) -> Any:
        raise OSError("no compiler today")

    monkeypatch.setattr(kernels, "_build", broken)
    first = painted("f4")
    kernels.warm("f4")
    np.testing.assert_array_equal(painted("f4"), first)
    assert [record.getMessage() for record in caplog.records] == [
        "painting loop f4 was not compiled, frames are painted with numpy: no compiler today"
    ]


def test_numba_switched_off_leaves_numpy_painting(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NUMBA_DISABLE_JIT the loop would run as Python, a thousand times slower."""
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    assert kernels._build("f4") is None


def test_a_loop_is_compiled_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place for numba's cache the loop is compiled anew instead of not at all."""
    import numba

    compile_with = numba.njit
    asked = []

    def no_cache(*args: Any, **options: Any) -> Any:
        asked.append(options.get("cache", False))
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_with(*args, **options)

    monkeypatch.setattr(numba, "njit", no_cache)
    kernel = kernels._build("u1")
    assert asked == [True, False]
    out = np.zeros(3, np.uint8)
    levels, colors = np.arange(256, dtype=np.uint8), np.arange(257, dtype=np.uint32)
    assert kernel is not None
    kernel(np.array([9], np.uint8), 1, levels, colors, np.zeros(1, np.uint32), out)
    assert out.tolist() == [9, 0, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_waits_until_numba_is_imported() -> None:
    """A child of a fork in the middle of the import could never finish it; here it paints at once."""
    program = """
import os, sys, warnings
import numpy as np
from lazystore.render import kernels
assert kernels.compiled("f8") is None
assert kernels.compiled("f8") is None
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    os._exit(0 if kernels.compiled("f8") is not None else 7)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
