"""Configuration files: JSON, YAML or TOML, one schema. Every problem is named with its path.

``load`` reads a file into ``Config`` (settings values and upstream specs) · ``expand`` resolves ``${VAR}``.

Files written for Claude, Cursor or VS Code (``mcpServers`` or ``servers``) are read as they are. The counterpart that
keeps a running gateway in step with its file is ``gateway.supervisor.config_follower``.
"""

from shared.config.expand import expand
from shared.config.load import Config, load, parse

__all__ = ["Config", "expand", "load", "parse"]
