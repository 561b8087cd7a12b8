"""How bytes go to upstreams and come back. A transport is one file here, and one row of ``shared.transports``.

``transport`` the interface of a transport, and the table of them · ``stdio`` child processes · ``streamable_http``
(with ``http_post``, ``http_standing_get``) · ``http_sse`` the older HTTP transport · ``http_reach`` reaching an
upstream by its URL · ``http_client`` the lean HTTP/1.1 client under both · ``eras`` (pure) which eras an answer means ·
``lines`` (pure) splitting a child's stdout.
"""

from worker.transports import http_sse, stdio, streamable_http
from worker.transports.transport import DRIVERS

__all__ = ["DRIVERS", "http_sse", "stdio", "streamable_http"]
