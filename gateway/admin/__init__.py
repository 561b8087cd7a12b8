"""The admin API under ``/admin/v1``, the health endpoints and ``/metrics``.

``routes`` the HTTP handlers · ``rights`` which requests are allowed · ``queries`` what the handlers show, as values ·
``commands`` what the handlers change · ``access`` handlers about API keys and rules · ``virtual_servers`` handlers
about virtual servers · ``pins`` handlers about pinned tools · ``restarting`` asking the supervisor for a restart ·
``overview`` pictures of the whole · ``explaining`` where a call would go, and why a tool is not there · ``events`` what
happened lately, and who follows it · ``schemas`` the bodies as types · ``openapi`` the description made from them.
"""
