"""Takes calls in: the handlers of every method, and what is read of and told to a client."""
