"""Health of one upstream: ``policy`` decides, ``worker.upstreams.lifecycle`` probes."""
