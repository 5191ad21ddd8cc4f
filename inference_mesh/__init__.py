"""What the processes of the mesh share: stubs, errors, lifecycle, telemetry, configuration.

The lowest layer: it imports no service.
"""
