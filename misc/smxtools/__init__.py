"""smxtools: small programs around smx that belong to no daemon."""
