"""The workers: one model behind one server, whatever engine runs it."""
