"""Carries calls to workers: which replicas there are, which is asked, and what its status means."""
