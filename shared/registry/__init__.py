"""The registry in Redis: what is registered, who owns it, how it is, and who is alive.

``keys`` every key in one place · ``scripts`` the writes, each one Lua script that also appends to the change log ·
``records`` what is read back · ``client`` connections · ``store`` reads and writes · ``members`` heartbeats of
workers and front ends · ``wakeups`` hints on pub/sub channels · ``changes`` following the change log.

Redis coordinates; it is not in the path of a call.
"""
