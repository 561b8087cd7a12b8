"""Upstreams for tests: ``sdk`` real ``mcp`` servers as child processes; ``raw`` scripted ones in the test's own
loop."""
