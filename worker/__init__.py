"""The worker: a process that owns upstreams and carries calls to them.

=============== ================================================================================
module           what lives there
=============== ================================================================================
main             composition root; start, heartbeat, drain
rpc_server       links from front ends: proof of membership, calls in, answers out
calls            one call on its way through this worker
needs            what upstreams need of clients during a call: relayed, parked, asked, passed
replay           what was said on a call's stream, for clients that lost their connection
placement        which upstreams this worker owns (pure decision, thin driver)
inventory        the owned upstreams: started, updated, stopped as the registry says
upstreams/       one upstream: era probe, sessions, transports (stdio, Streamable HTTP, HTTP+SSE)
bridge/          era translation of params, results and needs for input (pure)
health/          when an upstream counts as down and up again (pure policy)
reaper           kills what a dead or stopped worker would leave behind
=============== ================================================================================

Imports ``shared`` only, never ``gateway`` (enforced in CI).
"""
