"""JSON-RPC and MCP vocabulary. Pure: bytes and values in, bytes and values out.

``jsonrpc`` the envelope (decoded once, payloads kept raw) · ``versions`` which versions belong to which era ·
``methods`` method names and what they allow · ``listings`` the four kinds of things that servers list · ``tasks`` the
tasks extension · ``headers`` the ``Mcp-*`` request headers of 2026-07-28 · ``sse`` reading and writing server-sent
events · ``text`` what is almost JSON · ``large_json`` decoding large messages without reading their long strings ·
``long_strings`` finding these strings · ``batch_items`` the messages of a batch · ``values`` how many members and
elements a text has · ``once`` each member of a request once · ``rope`` a large body as a list of the parts that
arrived.
"""
