"""Tests on real batch systems; see `make test-clusters`."""
