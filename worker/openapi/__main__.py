"""Reads one OpenAPI document, and ends: ``python -m worker.openapi``.

Counterpart: ``worker.transports.openapi_document``.
A document of some megabytes takes seconds of processor time and much memory, and a hostile one as much as it can get.
So it is read in a process of its own, with limits, and the worker only gets what it needs of it.

stdin: the JSON of ``operations.Asked``, a line end, the document. stdout: the JSON of ``operations.Api``.
"""

from __future__ import annotations

import contextlib
import sys

import msgspec

from worker.openapi.operations import Api, Asked

_MOST_MEMORY = 1536 * 1024 * 1024
"""Bytes of data of this process. The document of GitHub's API, one of the largest there are, takes 110 MB."""
_NEEDED = "OpenAPI documents need the extra 'openapi': pip install 'mcp-one-gateway[openapi]'"


def _read(data: bytes) -> Api:
    asked, _, document = data.partition(b"\n")
    try:
        from worker.openapi import documents, tools
    except ModuleNotFoundError as error:
        if error.name == "openapi_pydantic":
            return Api(problem=_NEEDED)
        raise
    try:
        return tools.read_api(documents.parse(document), msgspec.json.decode(asked, type=Asked))
    except documents.Unusable as error:
        return Api(problem=str(error))
    except (MemoryError, RecursionError):
        return Api(problem="it is too large, or too deep, to be read")


def main() -> None:
    """Read stdin, write stdout."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    sys.stdout.buffer.write(msgspec.json.encode(_read(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
