"""`mesh bench`: load on a model by any of its protocols, and what came of it."""
