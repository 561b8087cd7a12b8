"""Client sessions of the handshake era: ``session`` one session, ``table`` all sessions that this front end knows,
``room`` (pure) how many it opens."""
