"""The worker: a process that owns upstreams and carries calls to them.

From top to bottom; a module or package imports only what stands below it (checked in CI).

============ ================================================================================
module       what lives there
============ ================================================================================
main         the process: all parts wired together; start, heartbeat, drain
rpc_server   links from front ends: proofs of membership, calls in, answers out
metrics_port the figures of a worker of its own, for scrapers
front_ends   the front ends that are linked, and which of them receives a session's messages
ownership/   the upstreams that are owned: placed, connected, listed, probed; which session carries which call
transports/  how bytes go to upstreams: stdio, Streamable HTTP, HTTP+SSE, HTTP APIs
input/       input that upstreams need of clients, and messages for clients outside of calls
sessions/    conversations with upstreams
credentials/ in whose name upstreams are called: tokens and their renewal
calls/       calls under way, their observers, and what is kept of their streams
bridge/      era translation of params, results and requests for input (pure)
openapi/     documents of HTTP APIs as tools, calls of these tools as HTTP requests (pure)
life         the lock by which others see that the worker lives
launcher     becomes a stdio child that runs under another user, or with limits
reaper       kills the processes that a dead or stopped worker would leave behind
============ ================================================================================

Imports ``shared`` only, never ``gateway``.
"""
