"""Other servers that the engines are measured against."""
