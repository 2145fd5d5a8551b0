"""Fields from .npz archives."""

from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.errors import SourceError
from lazystore.sources.arrays import npy
from lazystore.sources.registry import open_sources, recognise
from tests.sources.reading import check_reads

RNG = np.random.default_rng(3)


def save(path: Path, *, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "deflated"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_equal_numpy(tmp_path: Path, compressed: bool, order: Any) -> None:
    """A member reads as numpy reads it, whether the archive packs it or not."""
    array = np.asarray(RNG.integers(0, 50, (300, 40)).astype("f4"), order=order)
    path = save(tmp_path / "a.npz", compressed=compressed, fields=array, other=np.arange(3))
    check_reads(open_sources(path)[0], array)


def test_a_small_window_still_gives_every_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fortran order inside a packed member is gathered in several passes of bounded memory."""
    monkeypatch.setattr(npy, "FORTRAN_WINDOW_BYTES", 3000)
    array = np.asarray(RNG.random((200, 12)), order="F")
    path = save(tmp_path / "a.npz", compressed=True, fields=array)
    check_reads(open_sources(path)[0], array)


def test_times_in_the_archive_are_used(tmp_path: Path) -> None:
    """An array called `times` with one value a record gives the ticks; a rate given overrides it."""
    times = np.array([0.5, 0.75, 1.5])
    path = save(tmp_path / "a.npz", fields=np.zeros((3, 6)), times=times)
    ticks = open_sources(path)[0].info.ticks
    assert ticks is not None
    assert ticks.values is not None
    np.testing.assert_array_equal(ticks.values * float(ticks.time_base), times)
    rated = open_sources(path, options={"rate_hz": 20})[0].info.ticks
    assert rated is not None
    assert (rated.values, rated.time_base) == (None, Fraction(1, 20))


def test_times_named_by_option_must_fit(tmp_path: Path) -> None:
    """Times that were asked for and do not fit are an error with both counts."""
    path = save(tmp_path / "a.npz", fields=np.zeros((3, 6)), short=np.zeros(2))
    with pytest.raises(
        SourceError, match=r"times 'short' of 'a.npz' have shape \(2,\).* there are 3 records"
    ):
        open_sources(path, options={"times": "short"})
    with pytest.raises(SourceError, match="has no array 'nothing'; it has: fields, short"):
        open_sources(path, options={"times": "nothing"})


def test_the_recording_is_named_where_it_is_not_obvious(tmp_path: Path) -> None:
    """Two candidates are listed; the option chooses; a wrong name is told."""
    path = save(tmp_path / "a.npz", left=np.zeros((3, 6)), right=np.ones((5, 6)))
    with pytest.raises(SourceError, match=r"it has: left \(3, 6\) float64, right .* option array=NAME"):
        open_sources(path, format="npz")
    assert open_sources(path, format="npz", options={"array": "right"})[0].info.length == 5
    with pytest.raises(SourceError, match="has no array 'up'; it has: left"):
        open_sources(path, format="npz", options={"array": "up"})


def test_a_usual_name_wins(tmp_path: Path) -> None:
    """Of several arrays, the only one called like a recording is taken."""
    path = save(tmp_path / "a.npz", fields=np.zeros((3, 6)), occupancy=np.zeros((20, 20)))
    assert recognise(path) == ("npz", "field")
    assert open_sources(path)[0].info.attributes["array"] == "fields"


def test_flipped_bits_of_a_packed_member_are_an_error(tmp_path: Path) -> None:
    """Deflated data that is damaged never becomes frames."""
    path = save(tmp_path / "a.npz", compressed=True, fields=RNG.random((400, 50)))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    source = open_sources(path)[0]
    with pytest.raises(SourceError, match=r"member 'fields\.npy' of 'a\.npz' is damaged"):
        source.read(0, 400)
    source.close()


def test_a_pass_over_a_stored_member_checks_its_crc(tmp_path: Path) -> None:
    """One flipped bit of an unpacked member is noticed when the pass in order ends."""
    path = save(tmp_path / "a.npz", fields=RNG.random((400, 50)))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x01
    path.write_bytes(raw)
    source = open_sources(path)[0]
    source.read(0, 200)
    with pytest.raises(SourceError, match="is damaged: its checksum does not match"):
        source.read(200, 400)
    source.close()


def test_a_cut_archive_is_an_error(tmp_path: Path) -> None:
    """A zip without its directory, or a member that ends early, says so."""
    path = save(tmp_path / "a.npz", fields=RNG.random((400, 50)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="is no whole zip archive"):
        open_sources(path, format="npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("fields.npy", whole[whole.index(npy.MAGIC) :][:5000])
    with pytest.raises(SourceError, match=r"member 'fields' .* is cut: shape \(400, 50\) needs"):
        open_sources(tmp_path / "b.npz", format="npz")


def test_objects_in_an_archive_are_left_out(tmp_path: Path) -> None:
    """A pickled member is never loaded, and does not disturb the others."""
    path = save(tmp_path / "a.npz", fields=np.zeros((3, 6)), notes=np.array([{}], dtype=object))
    assert open_sources(path)[0].info.columns[0].shape == (3, 6)


def test_times_that_are_a_recording_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are held whole, so their size has a limit."""
    monkeypatch.setattr("lazystore.sources.arrays.npz._MAX_TIMES_BYTES", 100)
    path = save(tmp_path / "a.npz", fields=np.zeros((30, 6)), times=np.arange(30.0))
    with pytest.raises(SourceError, match="take 240 bytes; too many to be times"):
        open_sources(path)
