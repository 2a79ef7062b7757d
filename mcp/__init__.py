"""mcp: the master control program, the only process that is ever root."""
