"""JSON-RPC and MCP vocabulary. Pure: bytes and values in, bytes and values out.

``jsonrpc`` the envelope (decoded once, payloads kept raw) · ``versions`` which versions belong to which era ·
``methods`` method names and what they allow · ``sse`` reading and writing server-sent events ·
``headers`` the ``Mcp-*`` request headers of 2026-07-28.
"""
