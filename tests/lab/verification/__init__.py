"""What the checks of `verify` stand on: the sites, the way to them, the observations, and the report."""
