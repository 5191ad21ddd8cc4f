"""What `mesh top` shows: pages of metrics are fetched, compared with those before, summed up and drawn.

`page`, `change`, `quantile` and `rows` calculate, without I/O; `scrape` and `watch` fetch; `table`
and `views` show.
"""
