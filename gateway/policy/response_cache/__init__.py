"""Which answers may be kept, and what makes two requests the same. Pure."""
