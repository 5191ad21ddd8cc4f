"""`python -m mesh_cli` is the same as `mesh`."""

from __future__ import annotations

from mesh_cli.main import main

if __name__ == "__main__":
    main()
