"""What the front end and the worker both need, and nothing that only one of them needs.

================== ==============================================================
``shared`` imports neither ``gateway`` nor ``worker`` (checked in CI).
"""
