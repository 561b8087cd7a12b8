"""Streams that stay open beside calls: a session's GET, an HTTP+SSE connection, a ``subscriptions/listen``.

``standing_stream`` one of them · ``open_streams`` those that are open here · ``standing_streams`` opening, resuming
and feeding them · ``subscriptions`` what their clients want to hear of · ``outbox`` what front ends leave for each
other in Redis · ``unsolicited`` what upstreams say while no call is in flight · ``listen_passthrough`` what a listen
asks for beyond the specification.
"""
