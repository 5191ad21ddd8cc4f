"""Which calls are copied to a shadow, and how far two answers are apart. Pure."""
