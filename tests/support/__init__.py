"""What several tests need: real processes of the mesh, and waiting without sleeping blindly."""
