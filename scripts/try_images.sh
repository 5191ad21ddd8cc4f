#!/usr/bin/env bash
# Builds the four images and runs them as a cluster does (user 10001, read-only root, no capabilities, nothing
# but /tmp to write to), asks both models through the REST bridge, and stops them. For a machine that reaches no
# registry of images: the base is Debian's own Python, put together by debootstrap.
#   scripts/try_images.sh          needs root, debootstrap, buildah, podman and runc; about 8 minutes the first time
set -euo pipefail
cd "$(dirname "$0")/.."

base=localhost/inference-mesh-trial/python:3
repository=localhost/inference-mesh-trial
names=(rest-bridge worker-onnx worker-llama gateway) # the gateway last: the others share its network
scratch=$(mktemp -d)
remove_containers() {
  for name in "${names[@]}"; do podman rm --force --ignore "trial-$name" >/dev/null 2>&1 || true; done
}
trap 'remove_containers; rm -rf "$scratch"' EXIT

for tool in debootstrap buildah podman runc; do
  command -v "$tool" >/dev/null || { echo "try_images: $tool is missing: apt-get install $tool" >&2; exit 1; }
done

if ! podman image exists "$base"; then
  packages=ca-certificates,netbase,tzdata,python3,python3-dev,python3-pip,python3-venv
  debootstrap --variant=minbase --include="$packages" bookworm "$scratch/tree" >"$scratch/log" 2>&1 ||
    { tail "$scratch/log" >&2; exit 1; }
  rm -rf "$scratch"/tree/var/cache/apt/archives/*.deb "$scratch"/tree/var/lib/apt/lists/*
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$scratch/tree" / >/dev/null
  buildah commit --quiet --rm "$container" "$base" >/dev/null
fi

# The build's steps run with this machine's network and certificates.
python3 -m scripts.build_images --engine buildah --repository "$repository" --tag trial "${names[@]}" -- \
  --quiet --pull-never --build-arg PYTHON_IMAGE="$base" --isolation chroot --network host \
  --volume /etc/ssl/certs:/etc/ssl/certs:ro

mkdir "$scratch/models"
cat >"$scratch/models/models.yaml" <<'YAML'
- {name: tiny-chat, endpoints: [127.0.0.1:50061]}
- {name: minilm, endpoints: [127.0.0.1:50062]}
YAML
chmod -R a+rX "$scratch"

remove_containers
start() { # name, further options of podman
  local name=$1
  shift
  podman --runtime runc run --detach --name "trial-$name" --pull never --read-only --read-only-tmpfs=false \
    --tmpfs /tmp:rw,size=64m,mode=1777 --user 10001:10001 --cap-drop ALL --security-opt no-new-privileges \
    --ulimit nofile=1024:4096 --ulimit nproc=1024:4096 "$@" "$repository/$name:trial" >/dev/null
}
beside=(--network container:trial-gateway)
start gateway --network none --volume "$scratch/models:/etc/mesh/models:ro" \
  --env MESH_GATEWAY_AUTH=open --env MESH_GATEWAY_MODELS=/etc/mesh/models/models.yaml --env MESH_GATEWAY_HTTP_PORT=8081
start worker-llama "${beside[@]}" --env MESH_WORKER_NAME=tiny-chat --env MESH_WORKER_MODEL=/models/tiny-chat.gguf \
  --env MESH_WORKER_RUNTIME=llama --env MESH_WORKER_GRPC_PORT=50061 --env MESH_WORKER_HTTP_PORT=8082
start worker-onnx "${beside[@]}" --env MESH_WORKER_NAME=minilm --env MESH_WORKER_MODEL=/models/minilm \
  --env MESH_WORKER_RUNTIME=onnx --env MESH_WORKER_GRPC_PORT=50062 --env MESH_WORKER_HTTP_PORT=8083
start rest-bridge "${beside[@]}" --env MESH_BRIDGE_GATEWAY=127.0.0.1:50051

podman exec --interactive trial-rest-bridge /opt/venv/bin/python - <<'PYTHON'
import json, time, urllib.error, urllib.request

def ask(model, payload, limit_s=60.0):
    body = json.dumps({"model": model, "payload": payload}).encode()
    request = urllib.request.Request("http://127.0.0.1:8080/api/infer", body, {"content-type": "application/json"})
    until = time.monotonic() + limit_s
    while True:
        try:
            return json.load(urllib.request.urlopen(request, timeout=30))["output"]
        except (OSError, urllib.error.HTTPError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)

print("tiny-chat:", ask("tiny-chat", {"messages": [{"role": "user", "content": "Who are you?"}]})["text"])
print("minilm:", len(ask("minilm", {"texts": ["a happy dog"]})["embeddings"][0]), "numbers")
PYTHON

podman logs trial-gateway 2>&1 | grep -q '"compiled": true' || { echo "try_images: the policy is interpreted" >&2; exit 1; }
for name in "${names[@]}"; do
  podman stop --time 30 "trial-$name" >/dev/null
  code=$(podman inspect --format '{{.State.ExitCode}}' "trial-$name")
  [ "$code" -eq 0 ] || { echo "try_images: $name ended with $code" >&2; exit 1; }
done
echo "the images work"
