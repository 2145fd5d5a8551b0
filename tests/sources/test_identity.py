"""What tells that a source is still the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from lazystore.errors import SourceChangedError, SourceError
from lazystore.sources import identity
from lazystore.sources.identity import (
    check_files_unchanged,
    check_unchanged,
    identify_array,
    identify_file,
    identify_files,
    identify_folder,
)


def test_an_edit_an_append_and_a_replacement_are_noticed(tmp_path: Path) -> None:
    """Head, tail and size are sampled; a touched file with the same bytes passes."""
    path = tmp_path / "a.bin"
    content = bytes(range(256)) * 4096
    path.write_bytes(content)
    known = identify_file(path)
    assert (known.name, known.size_bytes) == ("a.bin", len(content))
    check_unchanged(known, path)
    os.utime(path, ns=(1, 1))
    check_unchanged(known, path)
    for changed in (b"X" + content[1:], content[:-1] + b"X", content + b"X", content[:-1], b""):
        path.write_bytes(changed)
        os.utime(path, ns=(2, 2))
        with pytest.raises(SourceChangedError, match=rf"'a.bin' changed: it had {len(content)} bytes"):
            check_unchanged(known, path)
    path.unlink()
    with pytest.raises(SourceChangedError, match="'a.bin' can no longer be read"):
        check_unchanged(known, path)


def test_no_folder_of_the_machine_is_kept(tmp_path: Path) -> None:
    """An identity names the file, not its place, and a copy elsewhere has the same hash."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"1234")
    (tmp_path / "other").mkdir()
    copy = Path(shutil.copy(path, tmp_path / "other"))
    assert str(tmp_path) not in repr(identify_file(path))
    assert identify_file(path).sha256_sampled == identify_file(copy).sha256_sampled


def test_a_folder_is_identified_as_a_whole(tmp_path: Path) -> None:
    """A changed, added or removed file of a folder is noticed."""
    folder = tmp_path / "frames"
    (folder / "deep").mkdir(parents=True)
    for number in range(5):
        (folder / "deep" / f"{number}.png").write_bytes(bytes([number]) * 10)
    known = identify_folder(folder)
    assert (known.name, known.size_bytes) == ("frames", 50)
    check_unchanged(known, folder)
    (folder / "new.png").write_bytes(b"x")
    with pytest.raises(SourceChangedError, match="'frames' changed"):
        check_unchanged(known, folder)


def test_of_many_files_a_few_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a large folder is bounded, yet every size and name counts."""
    paths = [tmp_path / f"{number}.bin" for number in range(300)]
    for path in paths:
        path.write_bytes(b"1")
    sampled: list[Path] = []
    original = identity.identify_file

    def count(path: Path, **how: int) -> object:
        sampled.append(path)
        return original(path, **how)

    monkeypatch.setattr(identity, "identify_file", count)
    known = identify_files("x", paths)
    assert len(sampled) <= identity.MAX_SAMPLED_FILES
    paths[7].write_bytes(b"12")
    assert identify_files("x", paths).sha256_sampled != known.sha256_sampled
    assert identify_files("x", paths[1:]).sha256_sampled != known.sha256_sampled


def test_a_folder_that_never_ends_is_cut(tmp_path: Path) -> None:
    """At most `max_files` of a chunked store are looked at."""
    for number in range(20):
        (tmp_path / f"{number:02}").write_bytes(b"12")
    assert identify_folder(tmp_path, max_files=5).size_bytes == 10


def test_arrays_are_sampled_at_both_ends() -> None:
    """Shape, dtype, first and last records tell arrays apart."""
    array = np.zeros((1000, 1000))
    known = identify_array(array)
    assert known.size_bytes == array.nbytes
    for index in (0, -1):
        other = array.copy()
        other[index, 0] = 1
        assert identify_array(other).sha256_sampled != known.sha256_sampled
    assert identify_array(array.astype("i8")).sha256_sampled != known.sha256_sampled
    assert identify_array(array[:, :10]).sha256_sampled != known.sha256_sampled


def test_files_that_vanish_are_told(tmp_path: Path) -> None:
    """A file that is gone before it is sampled is an error with its name."""
    with pytest.raises(SourceError, match="cannot read .*gone"):
        identify_file(tmp_path / "gone")
    with pytest.raises(SourceError, match="cannot look at .*gone"):
        identify_files("x", [tmp_path / "gone"])


def test_files_of_a_folder_are_watched_in_their_own_order(tmp_path: Path) -> None:
    """Images in natural order are unchanged until one of them is; a new neighbour is none of them."""
    paths = [tmp_path / f"img{index}.png" for index in (1, 2, 10)]
    for path in paths:
        path.write_bytes(b"image" * 10)
    known = identify_files("folder", paths)
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    check_files_unchanged(known, paths)
    paths[1].write_bytes(b"other" * 11)
    with pytest.raises(SourceChangedError, match="'folder' changed: it had 150 bytes and now has 155"):
        check_files_unchanged(known, paths)
    paths[1].unlink()
    with pytest.raises(SourceChangedError, match="'folder' changed .*img2.*bring it back"):
        check_files_unchanged(known, paths)
