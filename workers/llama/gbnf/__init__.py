"""Grammars in llama.cpp's notation GBNF: read, checked, and followed token by token."""
