"""The version of all three packages, which are released together."""

VERSION = "0.1.0"
