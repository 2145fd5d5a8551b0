"""The compiled loops, their plain bodies and their numpy versions are one and the same."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from lazystore.events import compiling, loops, vectorised
from lazystore.events.compiling import LOOPS, loop_if_ready, loop_when_ready
from lazystore.events.modes import decay_tables
from tests.events.recordings import SENSOR, make_columns

W, H = SENSOR
TABLES = decay_tables(2000, 400)
CASES = {
    "count_events:u1": ((1, 255), (2, "u1")),
    "count_events:u2": ((0, 3), (1, "u2")),
    "count_events:u4": ((1, 2**32 - 1), (2, "u4")),
    "sum_signs": ((), (1, "i4")),
    "mark_polarity": ((), (1, "u1")),
    "sum_exponential": ((2000, *TABLES, 1), (2, "f4")),
    "sum_linear": ((2000, 2000.0, 0), (1, "f4")),
    "latest_surface": ((2000, *TABLES, 1), (2, "f4")),
    "fill_voxels": ((0, 3 / 2000), (4, "f4")),
}


def result_of(loop, name, columns):
    arguments, (planes, dtype) = CASES[name]
    out = np.full((planes, H, W), 127 if name == "mark_polarity" else 0, dtype)
    loop(*columns.values(), *arguments, out)
    return out


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_three_versions_of_a_loop_agree_bit_for_bit(name, ordered):
    """A frame does not change when the compiler is done."""
    columns = make_columns(3000, 1, ordered=ordered)
    for values in columns.values():
        values.flags.writeable = False
    body = name.partition(":")[0]
    expected = result_of(getattr(loops, body), name, columns)
    np.testing.assert_array_equal(result_of(getattr(vectorised, body), name, columns), expected)
    np.testing.assert_array_equal(result_of(loop_when_ready(name), name, columns), expected)
    assert expected.any()


@pytest.mark.parametrize("name", LOOPS)
def test_every_loop_compiles_once(name):
    """Each has exactly the signature that it is called with."""
    loop = loop_when_ready(name)
    assert loop is not getattr(loops, name.partition(":")[0])
    assert len(loop.signatures) == 1
    assert loop_when_ready(name) is loop


def test_the_compiler_is_not_waited_for(monkeypatch):
    """Until a loop is made its numpy version answers, and it is made once only."""
    monkeypatch.setattr(compiling, "_ready", {})
    monkeypatch.setattr(compiling, "_making", {})
    made = []
    monkeypatch.setattr(compiling, "_build", lambda name: made.append(name) or "compiled")
    assert loop_if_ready("sum_signs") is vectorised.sum_signs
    assert loop_when_ready("sum_signs") == "compiled"
    assert loop_if_ready("sum_signs") == "compiled"
    assert made == ["sum_signs"]


def test_a_broken_compiler_leaves_numpy(monkeypatch, caplog):
    """Frames go on with numpy, filters with the plain loop; the cause is logged once."""
    monkeypatch.setattr(compiling, "_ready", {})
    monkeypatch.setattr(compiling, "_making", {})

    def broken(name):
        raise OSError("no compiler here")

    monkeypatch.setattr(compiling, "_build", broken)
    with caplog.at_level(logging.WARNING):
        assert loop_when_ready("keep_supported") is loops.keep_supported
        assert loop_if_ready("sum_signs") is vectorised.sum_signs
        loop_when_ready("sum_signs")
        loop_when_ready("sum_signs")
    assert caplog.text.count("loop sum_signs over events was not compiled") == 1


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_compiler():
    """With numba switched off everything still works."""
    code = """
        import numpy as np
        from lazystore.events import loops
        from lazystore.events.compiling import loop_when_ready
        assert loop_when_ready("sum_signs") is loops.sum_signs
        print("fine")
    """
    assert "fine" in run_python(code, NUMBA_DISABLE_JIT="1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_loops_after_a_fork():
    """A child born while a loop is being made can use it: the fork waits until it is made."""
    code = """
        import os, warnings
        import numpy as np
        from lazystore.events.compiling import loop_if_ready, loop_when_ready
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        loop_if_ready("sum_signs")
        child = os.fork()
        if child == 0:
            out = np.zeros((1, 2, 2), np.int32)
            one = [np.ones(1, d) for d in ("i8", "u2", "u2", "u1")]
            loop_when_ready("sum_signs")(*one, out)
            os._exit(0 if out[0, 1, 1] == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
    """
    run_python(code)
