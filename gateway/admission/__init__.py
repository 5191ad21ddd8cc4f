"""Owns the calls that wait for a model, and tells each when its turn has come."""
