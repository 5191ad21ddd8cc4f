"""What an operator sees: alerts, recording rules and dashboards, made from code.

Owns the sources; the files that Prometheus and Grafana read are made from them by
`python -m scripts.generate_observability` and committed.
"""
