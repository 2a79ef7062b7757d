"""Measures smx against Postfix on the same machine, file system, load and durability."""
