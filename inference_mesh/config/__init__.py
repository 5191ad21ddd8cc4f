"""The files that configure the mesh: their schemas, their parsing, and how they are watched."""
