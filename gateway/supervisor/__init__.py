"""The processes behind ``gateway up``, ``gateway serve`` and ``Gateway.start``.

``lifecycle`` starting, watching and stopping these processes · ``start_checks`` what settings must fulfil before ·
``rolling`` replacing them one after the other · ``processes`` how a child is started · ``embedded_redis`` a Redis of
the gateway's own · ``state_directory`` where that Redis keeps what the next start needs · ``gunicorn_conf`` gunicorn's
configuration · ``config_follower`` keeping the registry in step with a configuration file.
"""
