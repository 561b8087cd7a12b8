"""How the house is built: who imports whom, and whether its maps are true."""
