"""What settings were called in earlier releases. Files, records and environments that say so are understood."""

from __future__ import annotations

FORMER = {"maxListed": "maxEntries", "maxListedBytes": "maxCatalogBytes"}
"""The name of now, by the name of before, as in a file."""
FORMER_VARIABLES = {
    "GATEWAY_MAX_ENTRIES": "GATEWAY_MAX_LISTED",
    "GATEWAY_MAX_CATALOG_BYTES": "GATEWAY_MAX_LISTED_BYTES",
}
"""The variable of before, by that of now."""
