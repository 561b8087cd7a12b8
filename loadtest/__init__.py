"""Load on a running gateway, seen from outside as a user sees it: nothing here imports the gateway's packages.

``locustfile`` realistic users of both protocol eras for Locust, ``arguments`` what they put into tool calls, ``wire``
MCP messages over HTTP as both eras write them, ``bench/`` the benchmarks with their budgets (``make bench``).

``locust -f loadtest/`` imports every module below this folder whose name does not begin with an underscore, each under
its bare name. So modules here do nothing when imported, none but ``locustfile`` has user classes, and none is called
like a module of Python, of a dependency or of the gateway.
"""
