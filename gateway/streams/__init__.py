"""Standing streams, which stay open while no call runs: a session's GET, an HTTP+SSE connection, and a
``subscriptions/listen``.

``standing_stream`` one stream · ``open_streams`` the streams that are open here · ``standing_streams`` opening,
resuming and feeding streams · ``subscriptions`` resources and log levels that clients subscribed to · ``outbox``
messages that front ends leave for each other in Redis · ``unsolicited`` messages of upstreams while no call is in
flight · ``listen_passthrough`` members of a listen that are not in the specification.
"""
