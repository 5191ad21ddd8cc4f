"""What the gateway decides, free of any transport: facts in, decision out.

Nothing here imports grpc or opens a socket, so that every data path asks the same engine.
"""
