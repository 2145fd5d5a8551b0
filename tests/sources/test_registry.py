"""Recognition, options and the one door: open_sources."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.errors import MissingExtraError, SourceError, UnknownFormatError, UsageError
from lazystore.protocols import KINDS, Recognition, SourceFormat
from lazystore.sources import registry
from lazystore.sources.memory import ArraySource
from lazystore.sources.naming import describe_file, describe_folder, looks_like_text, natural_sorted
from lazystore.sources.options import Option, parse_options
from lazystore.sources.recognition import FormatRow, claim_file
from lazystore.sources.registry import FORMATS, find_format, list_formats, open_sources, recognise


class Claimer:
    """A format that claims what it is told to."""

    name = "claimer"
    extensions = (".x",)
    options = (Option("depth", "integer", "layers"),)

    def __init__(self, claim: Recognition | None, kinds: tuple[str, ...] = ("field",)) -> None:
        self.claim = claim
        self.kinds = kinds
        self.opened_with: Mapping[str, Any] | None = None

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        return self.claim

    def open(self, path: Path, options: Mapping[str, Any]) -> list[Any]:
        self.opened_with = options
        return [ArraySource(np.zeros((3, 2)))]


class Row(FormatRow):
    """A row whose object is there already."""

    __slots__ = ()

    def load(self) -> SourceFormat:
        loaded = OBJECTS[self.name]
        if isinstance(loaded, Exception):
            raise loaded
        return loaded


OBJECTS: dict[str, Any] = {}


@pytest.fixture
def x_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a.x"
    path.write_bytes(b"\x01\x02\x03")
    yield path
    OBJECTS.clear()


def rows(**formats: Any) -> list[FormatRow]:
    """Rows with the ending .x; a name that ends in _y has another ending."""
    OBJECTS.update(formats)
    return [
        Row(
            name,
            "m:O",
            (".y",) if name.endswith("_y") else (".x",),
            getattr(loaded, "kinds", ("field",)),
            "stacks",
        )
        for name, loaded in formats.items()
    ]


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_row_says_what_its_format_says(row: FormatRow) -> None:
    """The table, which needs no import, agrees with the format that it stands for."""
    loaded = row.load()
    assert isinstance(loaded, SourceFormat)
    assert loaded.name == row.name
    assert tuple(loaded.kinds) == row.kinds
    assert tuple(loaded.extensions) == row.extensions
    assert set(row.kinds) <= set(KINDS)
    assert all(isinstance(option, Option) for option in getattr(loaded, "options", ()))


def test_names_are_unique() -> None:
    """--format names one format."""
    names = [row.name for row in list_formats()]
    assert len(names) == len(set(names))


def test_a_certain_claim_beats_a_likely_one(x_file: Path) -> None:
    """Content decides before the order of the table does."""
    found = rows(first=Claimer(Recognition(False)), second=Claimer(Recognition(True), ("stack",)))
    assert claim_file(x_file, found, None)[0].name == "second"


def test_a_certain_claim_of_another_ending_beats_a_likely_one(x_file: Path) -> None:
    """A file under a wrong name is still what it is."""
    found = rows(likely=Claimer(Recognition(False)), certain_y=Claimer(Recognition(True), ("stack",)))
    assert claim_file(x_file, found, None)[0].name == "certain_y"


def test_the_order_decides_between_equal_claims_of_one_kind(x_file: Path) -> None:
    """Where the result is the same kind, the special layout comes first in the table."""
    found = rows(special=Claimer(Recognition(True)), general=Claimer(Recognition(True)))
    assert claim_file(x_file, found, None)[0].name == "special"


def test_equal_claims_of_two_kinds_ask_the_caller(x_file: Path) -> None:
    """A tie between kinds is no guess; --kind breaks it."""
    found = rows(a=Claimer(Recognition(True, "why")), b=Claimer(Recognition(True), ("stack", "series")))
    with pytest.raises(
        SourceError, match=r"could be several things: field \(a, why\), stack \(b\); .*--kind"
    ):
        claim_file(x_file, found, None)
    assert claim_file(x_file, found, "series")[0].name == "b"


def test_formats_of_other_endings_are_not_imported_without_need(x_file: Path) -> None:
    """A certain claim by a format of the file's ending ends the search."""
    found = rows(mine=Claimer(Recognition(True)), other_y=AssertionError("imported"))
    assert claim_file(x_file, found, None)[0].name == "mine"


def test_a_missing_package_is_told_only_if_nothing_else_reads_it(x_file: Path) -> None:
    """The extra is named when the only candidates need it."""
    lacking = ModuleNotFoundError("No module named 'h5py'", name="h5py")
    assert claim_file(x_file, rows(bad=lacking, good=Claimer(Recognition(False))), None)[0].name == "good"
    OBJECTS.clear()
    wanted = r"format 'bad' needs 'h5py', which is missing; pip install \"lazystore\[stacks\]\""
    with pytest.raises(MissingExtraError, match=wanted.replace('\\"', '"')):
        claim_file(x_file, rows(bad=lacking, none=Claimer(None)), None)
    OBJECTS.clear()
    with pytest.raises(
        UnknownFormatError, match="binary data that begins 01 02 03 although it is named like none"
    ):
        claim_file(x_file, rows(bad_y=lacking, none=Claimer(None)), None)


def test_a_missing_module_of_our_own_is_no_missing_extra(x_file: Path) -> None:
    """A broken installation is not answered with the advice to install an extra."""
    row = FormatRow("ghost", "lazystore.sources.no_such_module:X", (".x",), ("field",))
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as caught:
        row.load()
    assert not isinstance(caught.value, MissingExtraError)


def test_a_package_without_extra_is_named_itself() -> None:
    """A plugin's format names the package that it lacks."""
    with pytest.raises(
        MissingExtraError, match="needs 'no_such_package_x', which is missing; pip install no_such"
    ):
        FormatRow("plugin", "no_such_package_x.y:Z", (".x",), ("field",)).load()


def test_unknown_files_are_described(tmp_path: Path) -> None:
    """The error says what the file looks like, what it is called like, and which formats there are."""
    path = tmp_path / "note.npy"
    path.write_text("hello world")
    with pytest.raises(
        UnknownFormatError,
        match=r"looks like text that begins 'hello world' although it is named like .*npy, .*hdf5",
    ):
        open_sources(path)
    with pytest.raises(UnknownFormatError, match="no format of kind 'tracks' that lazystore reads"):
        recognise(tmp_path / "note.npy", kind="tracks")


def test_missing_and_empty_inputs_are_one_line_errors(tmp_path: Path) -> None:
    """A file that is not there, or holds nothing, is told before any format is asked."""
    with pytest.raises(SourceError, match="no such file or folder: .*nothing.npy"):
        open_sources(tmp_path / "nothing.npy")
    empty = tmp_path / "a.npy"
    empty.touch()
    with pytest.raises(SourceError, match=r"is empty \(0 bytes\); expected a recording"):
        open_sources(empty)
    with pytest.raises(SourceError, match=r"is empty \(0 bytes\)"):
        open_sources(empty, format="npy")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UnknownFormatError, match="is a folder without files"):
        open_sources(folder)
    (folder / "a.txt").write_text("x")
    with pytest.raises(UnknownFormatError, match=r"is a folder with 1 \.txt"):
        open_sources(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no device files")
def test_devices_are_refused() -> None:
    """A device would never end."""
    with pytest.raises(SourceError, match="is a device or pipe; expected a file or a folder"):
        open_sources("/dev/zero")


def test_a_name_longer_than_the_system_allows_is_an_error(tmp_path: Path) -> None:
    """What cannot be looked at is told with the system's reason."""
    with pytest.raises(SourceError, match="cannot look at|no such file"):
        open_sources(tmp_path / ("x" * 5000))


def test_unreadable_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is one line with the reason."""
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 2)))

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match="cannot read .*a.npy.*: Permission denied"):
        open_sources(path)
    with pytest.raises(SourceError, match="cannot read .*a.npy.*: Permission denied"):
        open_sources(path, format="npy")


def test_kinds_formats_and_options_are_checked(tmp_path: Path) -> None:
    """An unknown name is a usage error that lists the valid ones."""
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(UsageError, match="unknown kind 'movie'; the kinds are: field, video"):
        open_sources(path, kind="movie")
    with pytest.raises(UsageError, match="unknown format 'avi'; the formats are: .*npy"):
        open_sources(path, format="avi")
    with pytest.raises(
        UsageError, match=r"unknown option 'fps' .*format 'npy'; its options are: rate_hz \(records"
    ):
        open_sources(path, options={"fps": 3})
    with pytest.raises(UsageError, match="format='npy' is for files, not for a ndarray in memory"):
        open_sources(np.zeros((2, 2)), format="npy")


@pytest.mark.parametrize(
    ("option", "value", "parsed"),
    [
        (Option("o", "text", "m"), "a", "a"),
        (Option("o", "text", "m", ("a", "b")), "b", "b"),
        (Option("o", "flag", "m"), "Yes", True),
        (Option("o", "flag", "m"), False, False),
        (Option("o", "number", "m"), "1e3", 1000.0),
        (Option("o", "integer", "m"), "12", 12),
        (Option("o", "integer", "m"), 12.0, 12),
        (Option("o", "any", "m"), (1, 2), (1, 2)),
    ],
)
def test_options_are_converted(option: Option, value: Any, parsed: Any) -> None:
    """Text from a command line becomes the option's type."""
    result = parse_options("f", [option], {"o": value})["o"]
    assert result == parsed
    assert type(result) is type(parsed)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        (Option("o", "text", "m"), 3, "text"),
        (Option("o", "text", "m", ("a", "b")), "c", "one of a, b"),
        (Option("o", "flag", "m"), "maybe", "true or false"),
        (Option("o", "number", "m"), "nan", "a finite number"),
        (Option("o", "number", "m"), True, "a finite number|number"),
        (Option("o", "integer", "m"), "1.5", "a whole number"),
        (Option("o", "integer", "m"), "x", "a whole number"),
        (Option("o", "rate", "m"), "0", "a positive rate"),
        (Option("o", "rate", "m"), "1/0", "a positive rate"),
        (Option("o", "rate", "m"), "fast", "a positive rate"),
    ],
)
def test_options_of_the_wrong_type_are_usage_errors(option: Option, value: Any, expected: str) -> None:
    """The message has the value, what was expected, and what the option means."""
    with pytest.raises(
        UsageError, match=rf"option o={value!r} of format 'f' is not ({expected}); it means m"
    ):
        parse_options("f", [option], {"o": value})


def test_options_that_are_none_are_left_out() -> None:
    """None means that nothing was said."""
    assert parse_options("f", [Option("o", "text", "m")], {"o": None}) == {}


class EntryPoint(importlib.metadata.EntryPoint):
    """An entry point whose object is given."""

    def load(self) -> Any:
        return OBJECTS[self.name] if self.name in OBJECTS else super().load()


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two formats of other packages: one that works, one that does not load."""
    OBJECTS["claimer"] = Claimer(Recognition(True), ("field", "stack"))
    entries = [
        EntryPoint("claimer", "plugin:CLAIMER", registry.ENTRY_POINT_GROUP),
        EntryPoint("broken", "no_such_package_x:B", registry.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    monkeypatch.setattr(FormatRow, "load", lambda row: OBJECTS[row.name])
    registry._outside_formats.cache_clear()
    yield
    registry._outside_formats.cache_clear()
    OBJECTS.clear()


@pytest.mark.usefixtures("plugins")
def test_other_packages_bring_formats(tmp_path: Path) -> None:
    """A plugin's format is recognised, gets its options and the kind; a broken one is named."""
    path = tmp_path / "a.x"
    path.write_bytes(b"\x00")
    row = find_format("claimer")
    assert (row.extensions, row.kinds) == ((".x",), ("field", "stack"))
    assert "broken" not in [row.name for row in list_formats()]
    with pytest.raises(
        UsageError, match=r"format 'broken' is installed but does not load \(ModuleNotFoundError"
    ):
        find_format("broken")
    open_sources(path, format="claimer", kind="stack", options={"depth": "3"})
    assert OBJECTS["claimer"].opened_with == {"depth": 3, "kind": "stack"}


@pytest.mark.usefixtures("plugins")
def test_a_format_without_streams_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that opens and holds nothing is told."""
    path = tmp_path / "a.x"
    path.write_bytes(b"\x00")
    monkeypatch.setattr(OBJECTS["claimer"], "open", lambda path, options: [])
    with pytest.raises(SourceError, match=r"'a.x' \(claimer\) holds no recording"):
        open_sources(path, format="claimer")

    def lack(path: Path, options: Mapping[str, Any]) -> Any:
        raise ModuleNotFoundError("No module named 'av'", name="av")

    monkeypatch.setattr(OBJECTS["claimer"], "open", lack)
    with pytest.raises(MissingExtraError, match="format 'claimer' needs 'av'"):
        open_sources(path, format="claimer")


def test_a_list_of_files_is_one_recording(tmp_path: Path) -> None:
    """Files are joined along time in the order given."""
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"part{number}.npy")
        np.save(paths[-1], np.full((2, 4), number, "f4"))
    source = open_sources(paths)[0]
    assert source.info.length == 6
    np.testing.assert_array_equal(source.read(1, 5).columns["data"][:, 0], [0, 1, 1, 2])
    source.close()
    assert open_sources(paths[:1])[0].info.length == 2


def test_files_of_other_layouts_cannot_be_joined(tmp_path: Path) -> None:
    """The first file that differs is named, with both shapes; nothing stays open."""
    np.save(tmp_path / "a.npy", np.zeros((2, 4)))
    np.save(tmp_path / "b.npy", np.zeros((2, 5)))
    with pytest.raises(
        SourceError, match=r"'b.npy' cannot follow 'a.npy': .* \(5,\) float64, not \(4,\) float64"
    ):
        open_sources([tmp_path / "a.npy", tmp_path / "b.npy"])


@pytest.mark.usefixtures("plugins")
def test_files_of_other_streams_cannot_be_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings are joined stream by stream, so each file must have the same ones."""
    for name in "ab":
        (tmp_path / f"{name}.x").write_bytes(b"\x00")
    monkeypatch.setattr(
        OBJECTS["claimer"],
        "open",
        lambda path, options: [ArraySource(np.zeros((3, 2)))] * (1 + (path.stem == "b")),
    )
    with pytest.raises(
        SourceError, match=r"'.*b.x' has the streams \['', ''\], the first file has \[''\]; join"
    ):
        open_sources([tmp_path / "a.x", tmp_path / "b.x"], format="claimer")


def test_natural_order_sorts_numbers_by_value() -> None:
    """f9 comes before f10, and spelling breaks ties."""
    names = ["f10.png", "f9.png", "F1.png", "f01.png", "g1.png"]
    assert [path.name for path in natural_sorted(map(Path, names))] == [
        "F1.png", "f01.png", "f9.png", "f10.png", "g1.png",
    ]  # fmt: skip


def test_descriptions_are_short_and_right(tmp_path: Path) -> None:
    """What a file looks like is told in a few words, also when a text is cut inside a character."""
    assert describe_file(b"\x00\x00\x00\x18ftypmp42") == "an MP4/QuickTime video"
    assert looks_like_text("µs".encode() * 10 + "µ".encode()[:1])
    assert not looks_like_text(b"\xff\xfe\x00a")
    assert not looks_like_text(b"")
    for name in ("a.tif", "b.tif", "c"):
        (tmp_path / name).touch()
    assert describe_folder(tmp_path) == "a folder with 2 .tif, 1 no ending"
