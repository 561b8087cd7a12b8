"""The modules of the dashboard that need no browser, tested by Node's own runner: ``node --test tests/ui``."""
