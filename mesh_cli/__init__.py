"""The `mesh` command: the whole mesh on one machine, and a client of any mesh."""
