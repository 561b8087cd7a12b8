"""MCP at an endpoint, in both eras.

``serving`` the steps of one request, shared by all transports and both lanes · ``endpoint`` ``POST`` · ``legacy`` a
client session's ``GET``, resuming and ``DELETE`` · ``http_sse`` the older transport · ``batches`` JSON-RPC batches ·
``client_messages`` notifications and responses of clients · ``methods`` the table of methods, which makes ``plans`` ·
``session_methods`` those about a client's session · ``outgoing_requests`` the requests for upstreams in plans ·
``annotated`` arguments that are headers too · ``tool_discovery`` searching for tools · ``initialize`` and ``offers``
what client and gateway say of themselves · ``extensions`` (pure) which are carried · ``carrying`` sending what is
planned and ending it · ``answers`` whole answers and their HTTP status · ``call_stream`` a call shown event by event ·
``large_bodies`` reading large bodies while others are served.
"""
