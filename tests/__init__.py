"""Tests of the mesh, and what they share (`support`, `fakes`, `bench`)."""
