"""Everything that two daemons of smx share; imports no daemon."""
