"""Where runs are kept: the protocol, and a package for each database."""
