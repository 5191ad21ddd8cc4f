"""What callers used, to watch and to bill from."""
