"""What the front end and the worker both need, and nothing that only one of them does.

========== =====================================================================
module      what lives there
========== =====================================================================
errors      the one exception tree and the table code -> JSON-RPC -> HTTP
settings    every setting, its default and its environment variable
config      configuration files: reading, expanding, checking, naming problems
models      registry vocabulary: ``ServerEntry``, connections, statuses
secrets     the fleet's key: sealing client session ids, proving membership
tasks       how background tasks are made; the coarse deadline wheel
logs        how a process logs
mcp         JSON-RPC and MCP vocabulary (pure: no I/O)
rpc         frames between front end and worker: pure codec, thin asyncio link
registry    Redis: keys, scripts, store, change log
========== =====================================================================

``shared`` imports neither ``gateway`` nor ``worker`` (enforced in CI).
"""
