"""What tasks for texts have in common, whatever engine computes them. Pure."""
