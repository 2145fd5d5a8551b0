"""For whoever adds a format or a reader: contract suites to pass, and fakes to test against.

    from lazystore.testing import check_source

    def test_my_format(tmp_path):
        check_source(lambda: MyFormat().open(make_file(tmp_path), {})[0])

A broken contract raises `ContractError`, whose one line says which promise was broken and how.
"""

from lazystore.testing.contract import ContractError
from lazystore.testing.fakes import (
    ArrayChunkReader,
    ColumnsSource,
    CountingReader,
    FailingReader,
    GatedReader,
    SlowReader,
)
from lazystore.testing.readers import check_chunk_reader
from lazystore.testing.sources import check_source, check_source_info

__all__ = [
    "ArrayChunkReader",
    "ColumnsSource",
    "ContractError",
    "CountingReader",
    "FailingReader",
    "GatedReader",
    "SlowReader",
    "check_chunk_reader",
    "check_source",
    "check_source_info",
]
