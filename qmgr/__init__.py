"""The queue manager of smx: everything that decides about a message between 250 in and 250 out."""
