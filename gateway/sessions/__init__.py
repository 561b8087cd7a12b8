"""Client sessions of the handshake era: ``session`` one of them, ``table`` all that this front end knows."""
