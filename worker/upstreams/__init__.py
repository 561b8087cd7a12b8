"""One upstream: how it is reached, in which era, over which sessions.

``upstream`` the routing of calls to sessions, by era and isolation · ``lifecycle`` connect, list, probe, reconnect ·
``probe`` which eras it speaks · ``session`` what every session has in common · ``stdio``, ``streamable_http``,
``http_sse`` the transports · ``http_client`` the lean HTTP/1.1 client under two of them · ``subscriptions`` resources
that clients watch · ``correlation`` (pure) which answer belongs to which call · ``lines`` (pure) splitting a child's
stdout.
"""
