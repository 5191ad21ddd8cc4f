"""Owns what is left of each limit, in this process and in the Redis that the gateways share."""
