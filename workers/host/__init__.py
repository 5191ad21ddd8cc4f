"""One server for several models, each in a worker of its own, of which memory holds only some at a time."""
