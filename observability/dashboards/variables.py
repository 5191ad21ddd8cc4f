"""The choices that several dashboards have, and the matchers that follow from them."""

from __future__ import annotations

from observability.dashboards.layout import Variable
from observability.rules.objectives import INFERENCE

MODEL = Variable("model", "mesh_gateway_capacity", "Models of the registry.")
TENANT = Variable(
    "tenant", "mesh_gateway_tenant_requests_total", "Tenants; those beyond the limit are `other`."
)
JOB = Variable("job", 'up{job=~"gateway|rest-bridge|worker|redis"}', "Kinds of processes.")
POD = Variable("pod", 'up{job=~"$job"}', "Pods of these kinds.")
NAMESPACE = Variable("namespace", "container_memory_working_set_bytes", "Namespaces of the mesh.")

OF_MODEL = 'model=~"$model"'
OF_TENANT = 'tenant=~"$tenant",model=~"$model"'
OF_POD = 'job=~"$job",pod=~"$pod"'
CALLS = f"{OF_MODEL},{INFERENCE}"
