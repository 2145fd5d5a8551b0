"""After a fork the child reads on, with locks and threads of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tried here
import numpy as np
from lazystore.array import LazyArray
from lazystore.cache import CachedReader, shared_pool, set_cache_bytes
from lazystore.testing import ArrayChunkReader, FailingReader

set_cache_bytes(64 * 100)
values = np.repeat(np.arange(200)[:, None], 8, axis=1)
hold = threading.Event()
arrived = threading.Event()

def gate(index):
    if index[0] == 150:
        arrived.set()
        hold.wait(30)

reader = CachedReader(FailingReader(ArrayChunkReader(values, (1, 8)), gate))
array = LazyArray(reader)
for i in range(10):
    array[i]
# A load that is under way in another thread, and threads that prefetch and evict, while we fork.
threading.Thread(target=lambda: reader.read_chunk((150, 0)), daemon=True).start()
assert arrived.wait(20)
stop = threading.Event()
def churn():
    n = 0
    while not stop.is_set():
        n = (n + 7) % 140
        assert int(array[n][0]) == n
for _ in range(3):
    threading.Thread(target=churn, daemon=True).start()

children = []
for k in range(20):
    child = os.fork()
    if child == 0:
        hold.set()  # the child's copy: nobody holds it back here
        ok = [int(array[i][0]) for i in (0, 5, 150, 151, 152, 153, 199)] == [0, 5, 150, 151, 152, 153, 199]
        info = array.cache_info()
        ok = ok and info.total_bytes <= info.limit_bytes
        ok = ok and all(int(array[i][0]) == i for i in range(60))
        array.close()
        ok = ok and shared_pool.resident_bytes == 0 and shared_pool.reserved_bytes == 0
        os._exit(0 if ok else 1)
    children.append(child)
    time.sleep(0.01)
statuses = []
give_up_at = time.monotonic() + 40
for child in children:
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            statuses.append(status)
            break
        if time.monotonic() > give_up_at:
            os.kill(child, 9)
        time.sleep(0.005)
assert statuses == [0] * 20, statuses
stop.set()
hold.set()
assert int(array[120][0]) == 120
array.close()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_of_fork_reads_on_whatever_the_parent_was_doing() -> None:
    """Twenty forks amid loads, prefetches and evictions: no deadlock, right values, budget kept."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "done", "")
