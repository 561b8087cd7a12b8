"""Configuration files: JSON, JSON5, YAML or TOML, written for this gateway or for any client.

========= ==========================================================================
module    what lives there
========= ==========================================================================
load      ``load`` and ``parse``: a file as ``Config`` (settings values and upstream specs)
documents the bytes of a file as a document
lenient_json  JSON with comments, and JSON5
roots     where the entries are in it, whoever wrote it
file_rules  what it says of all of them: which servers and tools it wants
entries   one entry as a spec; what is wrong with it costs this entry alone
tool_lists  which tools an entry includes and excludes
web_entries  what an entry says of a server that is reached by a URL
readings  what becomes of an entry while it is read
unusual   members that no table knows by their name
spellings tables: how clients spell the members of an entry
expand    ``${VAR}`` and its kin
env_file  ``envFile``
file_contents  ``{file:PATH}``
commands  ``${exec:PROGRAM}``
projects  the servers of single projects in ``~/.claude.json``
========= ==========================================================================

The counterpart that keeps a running gateway in step with its file is ``gateway.supervisor.config_follower``.
"""

from shared.config.expand import expand
from shared.config.load import Config, load, parse

__all__ = ["Config", "expand", "load", "parse"]
