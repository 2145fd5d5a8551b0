"""How the page of results shows each benchmark; one without a layout is shown number by number."""

from __future__ import annotations

from benchmarks.layouts.converting import CONVERT, IMAGES, REDUCE
from benchmarks.layouts.events import EVENTS, EVENTS_SCALE
from benchmarks.layouts.video import VIDEO, VIDEO_ERRORS
from benchmarks.layouts.viewing import CACHE, MEMORY, PLAYBACK, READ, REMOTE, RENDERER, VIEWER

# In the order of the page.
LAYOUTS = {
    "playback": PLAYBACK,
    "viewer": VIEWER,
    "renderer": RENDERER,
    "read": READ,
    "cache": CACHE,
    "memory": MEMORY,
    "remote": REMOTE,
    "convert": CONVERT,
    "video": VIDEO,
    "reduce": REDUCE,
    "images": IMAGES,
    "video_errors": VIDEO_ERRORS,
    "events": EVENTS,
    "events_scale": EVENTS_SCALE,
}
