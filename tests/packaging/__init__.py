"""The tests of what is shipped: wheels, sdists, and an installation of core alone."""
