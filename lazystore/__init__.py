"""Convert once, open at once, scrub anything.

Spatial fields, video, image stacks and event-camera recordings as chunked, sharded Zarr v3 stores.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazystore import neurospatial
    from lazystore.array.lazy_array import LazyArray
    from lazystore.clock import Clock
    from lazystore.convert.api import convert
    from lazystore.convert.materialize import materialize
    from lazystore.convert.repair import repair
    from lazystore.convert.report import ConversionReport
    from lazystore.dataset import Store, open
    from lazystore.events.stream import EventStream
    from lazystore.render import ChunkedLazyFieldRenderer, LazyFieldRenderer
    from lazystore.viewer import view

# Name -> module that holds it. Everything is imported when first asked for, so that
# `import lazystore` costs nothing beside numpy.
_HOMES = {
    "ChunkedLazyFieldRenderer": "lazystore.render",
    "Clock": "lazystore.clock",
    "ConversionReport": "lazystore.convert.report",
    "EventStream": "lazystore.events.stream",
    "LazyArray": "lazystore.array.lazy_array",
    "LazyFieldRenderer": "lazystore.render",
    "Store": "lazystore.dataset",
    "convert": "lazystore.convert.api",
    "materialize": "lazystore.convert.materialize",
    "open": "lazystore.dataset",
    "repair": "lazystore.convert.repair",
    "view": "lazystore.viewer",
}
_MODULES = ("neurospatial",)

__all__ = [
    "ChunkedLazyFieldRenderer",
    "Clock",
    "ConversionReport",
    "EventStream",
    "LazyArray",
    "LazyFieldRenderer",
    "Store",
    "convert",
    "materialize",
    "neurospatial",
    "open",
    "repair",
    "view",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"lazystore.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'lazystore' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """The package, in which `convert` is the function whatever was imported first.

    Importing ``lazystore.convert.…`` would otherwise bind the subpackage over it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
