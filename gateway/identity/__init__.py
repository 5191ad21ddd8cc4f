"""Where callers become known: the files and endpoints that keys, tenants and tokens come from."""
