"""The pure parts of traces."""
