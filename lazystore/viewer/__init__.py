"""A store in napari: every item a layer, one slider in session seconds.

`timeline`, `aligned`, `scrub` and `layers` are plain data and arithmetic; `window` alone knows napari.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lazystore.dataset import Store, open_own
from lazystore.errors import MissingExtraError
from lazystore.viewer.scrub import Scrub, checked_scrub

if TYPE_CHECKING:
    import napari


def view(
    store: Store | str | os.PathLike[str],
    items: Sequence[str] | None = None,
    *,
    rate_hz: float | None = None,
    scrub: Scrub = "overview",
    show: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> napari.Viewer:
    """Show a store's items in napari, aligned in session time.

    Parameters
    ----------
    store
        An open store, or where one lies.
    items
        Names of the items to show; None for all.
    rate_hz
        Steps a second of the slider; None for the fastest movie's own.
    scrub
        What a movie shows after a jump until its frame is read, where that takes longer than 40 ms
        (1/60 s amid a drag): ``"overview"``, the stored small picture of that time, where there is one;
        ``"exact"``, what it showed before, and the window waits. Scripts that move the slider
        themselves always get exact frames, since a later one could not be shown to them.
    show
        Whether the window is shown at once.
    storage_options
        As for `open`.

    Returns
    -------
    napari.Viewer
        One layer an item. Each shows its sample nearest to the slider's session second, and is
        blank where it has none.

    Raises
    ------
    MissingExtraError
        If napari is not installed.
    UsageError
        If an item is unknown, none of them can be shown, or `scrub` is another word.
    """
    how = checked_scrub(scrub)
    try:
        from lazystore.viewer.window import open_viewer
    except ImportError as error:
        raise MissingExtraError(f'viewing needs napari: pip install "lazystore[viewer]" ({error})') from error
    opened = store if isinstance(store, Store) else open_own(store, storage_options=storage_options)
    return open_viewer(opened, items, rate_hz=rate_hz, show=show, scrub=how)


def run(store: Store, items: Sequence[str] | None = None, *, scrub: Scrub = "overview") -> None:
    """Show a store and stay until the window is closed."""
    viewer = view(store, items, scrub=scrub)
    import napari

    napari.run()
    del viewer
