"""How bytes go to upstreams and come back. A transport is one file here, and one row of ``shared.transports``.

``transport`` the interface of a transport, and the table of them.

Child processes: ``stdio`` the transport · ``not_started`` why a command cannot be started · ``confinement`` their user
and limits · ``sandbox`` what they are shut in · ``patience`` how long a child may take to start · ``descendants`` what
it leaves behind · ``child_output`` what it writes · ``lines`` (pure) splitting its stdout · ``odd_output`` (pure)
messages that are not one a line · ``error_output`` (pure) its stderr.

HTTP: ``streamable_http`` (with ``streamable_http_sessions``, ``http_post``, ``http_standing_get``) · ``http_sse`` the
older transport · ``http_reach`` reaching an upstream by its URL · ``http_client`` the lean HTTP/1.1 client under
both, for any ``http_exchange``, on connections (``http_connection``) that ``http_dial`` opens to an ``http_endpoint``,
whose address ``http_names`` finds, with the ``http_heads`` that it knows, and ``http_redirects`` (pure) ·
``http_authorized`` the same client with tokens · ``http_body`` bodies that take long to be read · ``content_coding``
compressed ones · ``cookies`` (pure) of a session · ``session_doubts`` (pure) which refusals may be about a session ·
``overload`` (pure) which say that there is no room · ``http_refusals`` (pure) responses that are no answer ·
``http_odd_bodies`` (pure) messages among other text · ``http_elsewhere`` (pure) calls that are answered on the standing
stream · ``eras`` (pure) which eras an answer means.

Both: ``turns`` work that takes long, between which the loop belongs to others.

Both: ``exhausted`` (pure) a connection or a child that this worker has no descriptor for.

HTTP APIs that speak no MCP: ``openapi`` the transport, over the same HTTP client · ``openapi_document`` getting the
document and having it read (``worker.openapi``).
"""

from worker.transports import http_sse, openapi, stdio, streamable_http
from worker.transports.transport import DRIVERS

__all__ = ["DRIVERS", "http_sse", "openapi", "stdio", "streamable_http"]
