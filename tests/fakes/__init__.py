"""Real programs that stand in for parts of the mesh."""
