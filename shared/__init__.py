"""What the front end and the worker both need, and nothing that only one of them needs.

================== =====================================================================
module             what lives there
================== =====================================================================
errors             the one exception tree and the table code -> JSON-RPC -> HTTP
settings           every setting, its default and its environment variable
knobs              one setting: its names, its type, and values of it (pure)
nested_settings    settings that are an object of their own in a file: TLS
telemetry_settings settings of what the gateway shows of itself
shown_settings     settings as they may be shown (pure)
former_names       what settings were called before
own_settings       the settings that one upstream can have for itself
access/            rules of access and API keys, as they are written and kept
config/            configuration files: reading, expanding, checking, naming problems
virtual_servers    the document of a virtual server, strictly read (pure)
models             the registry's vocabulary: ``ServerEntry``, ``UpstreamSpec``, statuses
cures              what helps against the error of an upstream (pure)
choices            the words among which settings and entries choose
transports         one row for each transport
tls                TLS contexts from files, with errors that name file and cure
egress             which addresses upstreams may have
connections        how one upstream is reached, and what of it may be shown
upstream_auth      in whose name an HTTP upstream is called
oauth/             requests of an OAuth client: metadata, tokens
safe_python        how the gateway's own programs are started in Python
child_environment  which variables stdio children get
sandbox            what stdio children are shut in
handover           how a process gets its settings from the one that starts it
supervision        how a front end asks its supervisor for a restart
live_rules         how a supervisor gives its front ends rules of access that have changed
seclusion          what other programs of the same user can read of a process
tool_filter        which tools of an upstream may be seen and called
pins               what was approved of tools, and whether it is still listed so (pure)
isolation          which upstream session a call uses
freshness          how long lists of upstreams are fresh
request_state      the sealed state of calls that wait for input
task_ids           the sealed ids by which clients know tasks
secrets            the fleet's key: sealing client session ids, proofs of membership
rendezvous         a ranking of candidates that every process computes alike
tasks              how background tasks are made; the coarse deadline wheel
memory             settings of the garbage collector and of glibc's allocator
logs               how a process logs
loopback           whether an address is reached from this machine only
networks           the addresses of proxies in front, which are believed (pure)
version            the version of all three packages
mcp/               JSON-RPC and MCP vocabulary (pure: no I/O)
rpc/               frames between front end and worker: pure codec, thin asyncio link
metrics/           figures for Prometheus, and how those of several processes are added up
tracing/           traces: context, sampling, spans as OTLP, the way to a collector
registry/          Redis: keys, scripts, store, change log
================== =====================================================================

``shared`` imports neither ``gateway`` nor ``worker`` (checked in CI).
"""
