"""Fuzzing: what reads bytes of strangers is fed with what nobody would send.

Each test changes the lines of one file of ``corpus`` at random (``engine``) and states what must hold of every input:
which errors may come, that pieces mean the same as the whole, that another reader of the same bytes does not understand
something else. Rounds are counted and seeds fixed, so that a test plays the same inputs everywhere; the default takes
some seconds for each file.

``make fuzz`` plays many more (``FUZZ_ROUNDS``), others with ``FUZZ_SEED``. An input that fails is printed as a line for
the corpus: add it there, so that it is played first from then on.

``test_heads`` heads of HTTP requests and pipelining, against aiohttp · ``test_envelope`` JSON-RPC, against Python's
reader · ``test_streams`` server-sent events, frames between processes, lines of children · ``test_configuration``
files in JSON, YAML and TOML.
"""
