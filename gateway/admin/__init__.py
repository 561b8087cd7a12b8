"""The admin API under ``/admin/v1``, the health endpoints and ``/metrics``. ``schemas`` the bodies, ``routes`` the
handlers."""
