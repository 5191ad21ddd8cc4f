"""The protocols that a load can speak; each makes one call from a payload of `POST /api/infer`."""
