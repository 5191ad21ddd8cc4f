"""Copies of calls to another model or version, and what their comparison found."""
