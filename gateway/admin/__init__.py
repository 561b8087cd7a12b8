"""The admin API under ``/admin/v1``, the health endpoints and ``/metrics``.

``routes`` the handlers · ``rights`` who may · ``queries`` what they show, as values · ``commands`` what they change ·
``schemas`` the bodies as types, and the OpenAPI description made from them.
"""
