"""How the embedded models are made; README.md lists them. Nothing here is imported by a service."""
