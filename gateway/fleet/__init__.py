"""The front end's view of the fleet: the registry's copy in memory, links to workers, calls and their retries.

``watcher`` follows the change log · ``worker_link`` one link · ``pool`` all of them · ``dispatch`` a call from
choosing a replica to its first answer · ``subscriptions`` resources that this front end's clients watch ·
``exchange`` in-flight counts between front ends · ``stats`` what this front end counted.
"""
