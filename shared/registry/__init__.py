"""The registry in Redis: which upstreams are registered, their owners, their state, and which processes are alive.

``keys`` every key in one place · ``scripts`` the writes, each one Lua script that also appends to the change log ·
``records`` what is read back · ``client`` connections · ``lean_redis`` redis-py in processes of the gateway ·
``breaker`` whether Redis is asked at all · ``turns`` how many ask at once · ``batches`` many scripts in one message ·
``store`` reads and writes · ``seals`` what of it counts, if the fleet has a configured key · ``api_keys`` records of
keys · ``virtual_servers`` their documents · ``pins`` what was approved of tools · ``credentials`` sealed tokens for
upstreams · ``used_states`` retries that were used · ``audit`` who did what · ``failed_calls`` the last calls that
failed · ``members`` heartbeats of workers and front ends · ``figures`` what they counted · ``deaths`` noticing at once
that a worker died · ``rolls`` rolling restarts · ``condition`` how Redis itself is doing · ``wakeups`` hints on pub/sub
channels · ``changes`` following the change log.

Redis coordinates the processes and is not in the path of a call.
"""
