"""In which order waiting calls are served, and which are refused instead. Pure."""
