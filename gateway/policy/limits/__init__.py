"""How much a caller may have: rates, concurrency and token budgets. Pure."""
