"""The ``gateway`` command.

============ =========================================================================================
module       what lives there
============ =========================================================================================
main         the group of commands, and how errors look
up           what starts things: ``up``, ``serve``, ``worker``; and ``check``
servers      the registry: ``servers list``, ``show``, ``add``, ``remove``, ``logs``
calls        using a gateway as clients do: ``tools``, ``call``
look         looking at a gateway: ``status``, ``health``, ``explain``
admin_client the admin API, over aiohttp
mcp_client   the MCP endpoint, through the official SDK; the only module that imports it
address      what a user's ``--url`` stands for
failures     how commands fail, and in which words
options      options that commands share
state        how a gateway is found on this machine
show         tables for people, JSON for programs
============ =========================================================================================
"""
