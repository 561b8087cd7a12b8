"""The worker: a process that owns upstreams and carries calls to them.

From top to bottom; a room imports only what stands below it (checked in CI).

============ ================================================================================
room         what lives there
============ ================================================================================
main         the process: what works, wired together; start, heartbeat, drain
rpc_server   links from front ends: proof of membership, calls in, answers out
front_ends   the front ends that are linked, and which of them is told what
ownership/   the upstreams that are owned: placed, connected, listed, probed; which session carries which call
transports/  how bytes go to upstreams: stdio, Streamable HTTP, HTTP+SSE
input/       what upstreams need of clients, and say to them
sessions/    conversations with upstreams
calls/       calls on their way, and who hears of them
bridge/      era translation of params, results and needs for input (pure)
reaper       kills what a dead or stopped worker would leave behind
============ ================================================================================

Imports ``shared`` only, never ``gateway``.
"""
