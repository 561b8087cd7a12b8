"""The fleet as a front end sees it, and the path of a call to a worker.

``registry_view`` the registry's copy, catalogue and views · ``pool`` links to all workers · ``redial`` when a worker is
dialled again (pure) · ``worker_link`` one link, once both ends are proven · ``worker_affinity`` which of an upstream's
workers gets a call (pure) · ``outgoing`` a request for an upstream, and where it must go · ``passed_headers`` (pure)
headers of clients that go up · ``targets`` where a call goes · ``dispatch`` a call from choosing a replica to its first
event · ``shares`` (pure) how many calls each caller may have under way · ``hedging`` asks a second replica when the
first one is late · ``ejection`` keeps calls from replicas that do badly · ``resource_watches`` resources that clients
of this front end subscribed to · ``known_tasks`` which upstream has a task · ``own_lists`` what a client sees that no
other client does · ``virtual_servers`` the copy of their documents · ``pins`` the copy of what was approved of tools ·
``tool_search`` the indexes of views that are searched · ``exchange`` in-flight counts between front ends ·
``heartbeat`` this front end's record in Redis.
"""
