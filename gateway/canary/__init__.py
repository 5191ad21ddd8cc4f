"""Canaries at work: their samples, their progress, and where gateways share both."""
