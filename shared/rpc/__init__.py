"""Frames between front ends and workers.

``messages`` the heads (msgpack) · ``framing`` the pure codec: sizes, head, body outside the head · ``connection``
``Link``, the asyncio driver: coalesced writes, chunked bodies with credit · ``link_tls`` TLS of links over TCP ·
``handshake`` what both ends prove to each other before they trust a link (pure) · ``peer_credentials`` who is at the
other end of a Unix socket · ``joining`` the handshake on a link, until it is handed over to whoever sends calls.
"""
