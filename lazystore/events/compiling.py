"""Compiled loops over events: made in the background for frames, waited for elsewhere.

Importing numba takes 0.2 to 1.4 s and compiling a loop 0.2 to 0.5 s, once a machine. The first frames
must not wait for that: until a loop is ready, `loop_if_ready` gives the numpy version of it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from lazystore.events import loops, vectorised

type Loop = Callable[..., Any]

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_ready: dict[str, Loop] = {}
_making: dict[str, threading.Thread] = {}

# Arguments behind the four columns: numbers as they are, arrays by dtype and dimensions, written to
# unless marked "const". Exact types, so that each loop is compiled once, and not at a wrong moment.
_SIGNATURES: dict[str, tuple[str, ...]] = {
    "count_events:u1": ("int", "int", "u1 3"),
    "count_events:u2": ("int", "int", "u2 3"),
    "count_events:u4": ("int", "int", "u4 3"),
    "sum_signs": ("i4 3",),
    "mark_polarity": ("u1 3",),
    "sum_exponential": ("int", "int", "f8 1", "f8 1", "int", "f4 3"),
    "sum_linear": ("int", "float", "int", "f4 3"),
    "latest_surface": ("int", "int", "f8 1", "f8 1", "int", "f4 3"),
    "fill_voxels": ("int", "float", "f4 3"),
    "keep_after_pause": ("int", "i8 2", "b1 1"),
    "keep_supported": ("int", "i8 2", "b1 1"),
    "write_digits": ("u1 1",),
}
LOOPS = tuple(_SIGNATURES)


def loop_if_ready(name: str) -> Loop:
    """The compiled loop, or its numpy version while it is being made. Never blocks.

    Asking starts the making. `name` is that of a frame loop, with the dtype where there are several.
    """
    loop = _ready.get(name)
    if loop is not None:
        return loop
    _start(name)
    plain: Loop = getattr(vectorised, name.partition(":")[0])
    return plain


def loop_when_ready(name: str) -> Loop:
    """The compiled loop; waits until it is made. Plain Python where it cannot be."""
    if name not in _ready:
        _start(name).join()
    body: Loop = getattr(loops, name.partition(":")[0])
    return _ready.get(name, body)


def _start(name: str) -> threading.Thread:
    with _lock:
        thread = _making.get(name)
        if thread is None:
            # "shared": belongs to the process, not to the stream that happened to ask first.
            thread = threading.Thread(
                target=_make, args=(name,), name=f"lazystore-shared-compile-{name}", daemon=True
            )
            _making[name] = thread
            thread.start()
        return thread


def _make(name: str) -> None:
    try:
        loop = _build(name)
    except Exception as error:  # frames go on with numpy, whatever breaks in a compiler
        _log.warning("loop %s over events was not compiled, numpy takes its place: %s", name, error)
        return
    if loop is not None:
        _ready[name] = loop


def _build(name: str) -> Loop | None:
    import numba

    if getattr(numba.config, "DISABLE_JIT", False):
        return None
    scalars = {
        "i8": numba.int64, "i4": numba.int32, "u1": numba.uint8, "u2": numba.uint16, "u4": numba.uint32,
        "f4": numba.float32, "f8": numba.float64, "b1": numba.types.boolean,
    }  # fmt: skip

    def column(code: str) -> Any:
        return numba.types.Array(scalars[code], 1, "C", readonly=True)

    def argument(code: str) -> Any:
        if code in ("int", "float"):
            return numba.int64 if code == "int" else numba.float64
        dtype, rank = code.split()
        return numba.types.Array(scalars[dtype], int(rank), "C")

    body: Loop = getattr(loops, name.partition(":")[0])
    signature = (
        column("i8"), column("u2"), column("u2"), column("u1"), *map(argument, _SIGNATURES[name])
    )  # fmt: skip
    try:
        made: Loop = numba.njit(signature, nogil=True, cache=True)(body)
    except RuntimeError:  # nowhere to keep compiled code: a read-only installation
        made = numba.njit(signature, nogil=True)(body)
    return made


def _finish_making() -> None:
    """Before a fork: a child born in the middle of an import could never import numba itself."""
    for thread in list(_making.values()):
        if thread is not threading.current_thread() and thread.is_alive():
            thread.join()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_finish_making)
