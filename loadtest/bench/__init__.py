"""Benchmarks with budgets: ``python -m loadtest.bench``. Everything is a ratio to a plain reverse proxy of this run.

The reference R (``reference``) is a bare aiohttp server that forwards bodies with ``ClientSession`` and understands
nothing. Rounds of R and of the gateway alternate under the same load; a row is the median of the rounds' ratios. So a
slow or busy machine makes rows noisy (the spread is printed), not wrong. CPU is that of every process of the gateway:
supervisor, gunicorn, front ends, workers and Redis; neither side pays for upstreams or for the load.

* what runs: ``children`` (start and end processes), ``subject`` (the gateway), ``reference``, ``upstream_http``,
  ``upstream_stdio``, ``redis_server``, ``collector``
* load: ``load`` (what to send, ``wrk`` or our own), ``wrk``, ``driver`` (our own: paced, and where wrk is missing),
  ``stream_clients`` (thousands of open event streams)
* figures: ``accounting`` (/proc), ``compare`` (alternating rounds), ``outcome`` (budgets and verdicts)
* ``scenarios/``: the rows; ``report`` and ``plot``: what is written
"""
