"""How clients come in.

``express`` the lane for plain calls, before aiohttp · ``negotiate`` the first look at every ``POST /mcp`` ·
``modern`` 2026-07-28 · ``streamable_http`` the handshake era over Streamable HTTP · ``legacy_sse`` HTTP+SSE ·
``requests`` what a method means, for all of them · ``sessions`` client sessions · ``streams`` standing streams ·
``interests`` what they listen for · ``calls`` a call shown on a response · ``routing_headers`` the headers that
mirror a modern request · ``responses`` writing answers with few system calls · ``guard`` Origin and Host.
"""
