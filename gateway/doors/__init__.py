"""How clients come in.

``negotiate`` the first look at every ``POST /mcp`` · ``modern`` 2026-07-28 · ``streamable_http`` the handshake era over
Streamable HTTP · ``legacy_sse`` HTTP+SSE · ``requests`` what a method means, for all of them · ``sessions`` client
sessions · ``streams`` standing streams · ``responses`` writing answers with few system calls · ``guard`` Origin
and Host.
"""
