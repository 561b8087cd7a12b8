"""The processes behind ``gateway up``, ``gateway serve`` and ``Gateway.start``.

``lifecycle`` starting, watching and stopping them · ``processes`` how a child is started · ``embedded_redis`` a Redis
of our own · ``gunicorn_conf`` gunicorn's configuration · ``config_follower`` keeping the registry in step with a
file.
"""
