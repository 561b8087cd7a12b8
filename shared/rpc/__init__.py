"""Frames between front ends and workers.

``messages`` the heads (msgpack) · ``framing`` the pure codec: sizes, head, body outside the head · ``connection``
``Link``, the asyncio driver: coalesced writes, chunked bodies with credit.
"""
