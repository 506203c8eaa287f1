"""Tests of the whole project; `hatch test` runs them."""
