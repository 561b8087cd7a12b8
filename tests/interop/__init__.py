"""The servers that people use, directly and through the gateway: the same answers (``make interop``, no part of
``make test``).

``__main__`` installs, plays and writes docs/interop.md · ``servers`` which servers, and what they are asked · ``asker``
asks (a process of the Python SDK 1.x) · ``fastmcp_client`` the client of FastMCP · ``fastmcp_server`` a server of it ·
``fastmcp_jobs`` both, with tasks · ``fastmcp_caller`` and the folder ``go_client`` the clients that ``make test`` plays
(``test_clients``).
"""
