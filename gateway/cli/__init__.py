"""The ``gateway`` command.

============ =========================================================================================
module       what it is for
============ =========================================================================================
main         the group of commands, and how errors are shown
usage        what is said of a command line that cannot be understood (pure)
narration    what ``up`` says: where the gateway is, what to do next, states of upstreams
up           commands that start processes: ``up``, ``serve``, ``worker``; and ``check``
restart      ``restart``: every process of a running gateway is replaced
servers      commands on the registry: ``servers list``, ``show``, ``remove``, ``logs``, ``restart``, ``disable``, …
registration ``servers add``
calls        commands that use a gateway as clients do: ``tools``, ``call``, ``read``, ``prompt``
tools        ``tools quarantine``, ``diff`` and ``approve``, for pinned tools; and ``tools`` itself
arguments    ``key=value`` as the values that a tool's schema wants (pure)
asking       what a server asks a person, on the terminal
content      what tools, resources and prompts answer, shown or saved
look         commands that show a gateway's state: ``status``, ``topology``, ``settings``, …
screen       ``status --watch`` on a terminal: a screen that fits, and keys to look closer
watching     commands that show what a gateway does now: ``top``, ``errors``, ``events``, ``doctor``
examination  what ``doctor`` finds (pure)
access       commands on access: ``keys create``, ``list``, ``revoke``, ``access explain``, ``audit``
connect      ``connect``: signing in to an upstream that is called in each caller's name
virtual      commands on virtual servers: ``virtual list``, ``show``, ``set``, ``remove``
adoption     ``import``, ``install`` and ``add``: taking over what is described elsewhere
descriptions what the MCP registry says of a server, as a connection (pure)
clients      where clients keep what they know of servers, and how they write it (pure)
editing      one entry in a file of another program
admin_client a client of the admin API, over aiohttp
mcp_client   a client of the MCP endpoint, through the official SDK; the only module that imports the SDK
address      the addresses that follow from a user's ``--url``
failures     the errors of commands, and their texts
trust        certificates that commands trust, and what failed connections mean
options      options that commands share
state        how commands find a gateway on this machine
show         tables for people, JSON for programs
============ =========================================================================================
"""
