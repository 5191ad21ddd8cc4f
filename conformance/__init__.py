"""Suites that `mesh conform` runs against any server: what a protocol's clients rely on, as checks.

    async with open_native(subject) as server:
        for check in NATIVE.checks: ...

A suite is one protocol. A check is a function whose first line of docstring is the claim that it
examines; it ends quietly (holds), raises BreachError (does not), or raises NotApplicableError (cannot be
examined here, and why). Nothing is imported from the services: a server is known by its wire alone.
"""
