"""The chat model that ships: 2 M parameters, llama architecture, trained from nothing on made-up text."""
