"""The commands, one module each.

A module imports heavy things inside its command, so that the other commands start fast.
"""
