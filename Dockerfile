# One target for each image; `make images` builds them with docker, podman or buildah:
#   gateway  rest-bridge  worker-llama  worker-onnx      and with CUDA: worker-llama-gpu  worker-onnx-gpu
#
# Every Python package comes from requirements/*.txt and is checked by its hash. The base images are named by
# tags; name them with their digests for builds that must be the same everywhere:
#   --build-arg PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:…
#
# llama.cpp is built for any x86-64 CPU with AVX2, FMA, F16C and BMI2 (Haswell, Zen and newer), and on arm64
# for any ARMv8: never for the CPU that happens to build it.

ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG CUDA_BUILD_IMAGE=docker.io/nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG CUDA_IMAGE=docker.io/nvidia/cuda:13.0.1-runtime-ubuntu24.04
ARG CUDNN_IMAGE=docker.io/nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04

# --- What all images have: Python, this user, no writing of bytecode (the root file system is read-only) ---
FROM ${PYTHON_IMAGE} AS python
ENV HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app

# --- Packages, one environment for each image. Bytecode is made here, and is never compared with its source ---
FROM python AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/venv

FROM packages AS gateway-packages
COPY requirements/gateway.txt requirements/
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --only-binary :all: --require-hashes \
      --requirement requirements/gateway.txt \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM packages AS rest-bridge-packages
COPY requirements/rest-bridge.txt requirements/
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --only-binary :all: --require-hashes \
      --requirement requirements/rest-bridge.txt \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM packages AS worker-onnx-packages
COPY requirements/worker-onnx.txt requirements/
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --only-binary :all: --require-hashes \
      --requirement requirements/worker-onnx.txt \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

# --- llama.cpp: the package index has only its sources. The flags beside GGML_* are scripts/llama_wheel.py's ---
FROM packages AS llama-wheel
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/build.txt requirements/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --only-binary :all: --require-hashes --requirement requirements/build.txt \
 && echo 'set(LLAMA_BUILD_COMMON OFF)' >/opt/no_common.cmake
COPY requirements/llama.txt requirements/
ENV CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=/opt/no_common.cmake -DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON" \
    SKBUILD_BUILD_DIR=/opt/llama/build \
    SKBUILD_WHEEL_EXCLUDE="lib/**"
# In folders whose names do not change: the libraries name their sources.
RUN PATH="/opt/tools/bin:$PATH" /opt/tools/bin/pip download --no-binary :all: --no-build-isolation --no-deps \
      --require-hashes --requirement requirements/llama.txt --dest /opt/llama \
 && mkdir /opt/llama/source \
 && tar --extract --strip-components 1 --directory /opt/llama/source --file /opt/llama/*.tar.gz
RUN CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" PATH="/opt/tools/bin:$PATH" \
    /opt/tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /opt/wheels /opt/llama/source

FROM packages AS worker-llama-packages
COPY requirements/worker-llama.txt requirements/
COPY --from=llama-wheel /opt/wheels /opt/wheels
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --only-binary :all: --require-hashes \
      --requirement requirements/worker-llama.txt \
 && python3 -m pip --python /opt/venv/bin/python install --no-compile --no-deps --no-index \
      --find-links /opt/wheels llama-cpp-python \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

# --- The gateway's policy as machine code: used as long as it was made from the very sources beside it ---
FROM gateway-packages AS policy
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/policy.txt requirements/
RUN python3 -m pip --python /opt/venv/bin/python install --only-binary :all: --require-hashes \
      --requirement requirements/policy.txt
COPY pyproject.toml ./
COPY scripts/compile_policy.py scripts/
COPY inference_mesh inference_mesh
COPY gateway gateway
# A compilation's folder is named by its process: out of the files with it, so that the same sources give the
# same image. `exec` keeps the process, and so its number.
RUN export CFLAGS="-ffile-prefix-map=/app/build/compiled.$$=/app/build/compiled" \
 && exec /opt/venv/bin/python -m scripts.compile_policy

# --- The embedded models. minilm is made from published weights, pinned by hash, and verified ---
FROM packages AS minilm
COPY requirements/models.txt requirements/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --only-binary :all: --require-hashes --requirement requirements/models.txt
COPY inference_mesh/__init__.py inference_mesh/cache.py inference_mesh/
COPY models/__init__.py models/
COPY models/minilm models/minilm
RUN /opt/tools/bin/python -m models.minilm --output /models/minilm \
 && chmod -R u=rwX,go=rX /models

FROM python AS tiny-chat
COPY models/files/tiny-chat.gguf /models/
RUN chmod -R u=rwX,go=rX /models

# --- Sources, readable by everybody and writable by nobody but root ---
FROM python AS gateway-sources
COPY inference_mesh inference_mesh
COPY gateway gateway
COPY --from=policy /app/build/compiled build/compiled
RUN chmod -R u=rwX,go=rX /app \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM python AS rest-bridge-sources
COPY inference_mesh inference_mesh
COPY rest_bridge rest_bridge
RUN chmod -R u=rwX,go=rX /app \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM python AS worker-sources
COPY inference_mesh inference_mesh
COPY workers workers
RUN chmod -R u=rwX,go=rX /app \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /app

# --- The images -----------------------------------------------------------------------------------------
FROM python AS gateway
LABEL org.opencontainers.image.title="inference-mesh gateway" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=gateway-packages /opt/venv /opt/venv
COPY --from=gateway-sources /app /app
USER 10001:10001
EXPOSE 50051 8080
ENTRYPOINT ["/opt/venv/bin/python", "-m", "gateway"]

FROM python AS rest-bridge
LABEL org.opencontainers.image.title="inference-mesh REST bridge" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=rest-bridge-packages /opt/venv /opt/venv
COPY --from=rest-bridge-sources /app /app
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["/opt/venv/bin/python", "-m", "rest_bridge"]

FROM python AS worker-llama
LABEL org.opencontainers.image.title="inference-mesh worker, llama.cpp" org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log
COPY --from=worker-llama-packages /opt/venv /opt/venv
COPY --from=tiny-chat /models /models
COPY --from=worker-sources /app /app
USER 10001:10001
EXPOSE 50051 8080
ENTRYPOINT ["/opt/venv/bin/python", "-m", "workers"]

FROM python AS worker-onnx
LABEL org.opencontainers.image.title="inference-mesh worker, ONNX Runtime" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=worker-onnx-packages /opt/venv /opt/venv
COPY --from=minilm /models /models
COPY --from=worker-sources /app /app
USER 10001:10001
EXPOSE 50051 8080
ENTRYPOINT ["/opt/venv/bin/python", "-m", "workers"]

# --- With CUDA, for NVIDIA GPUs on x86-64. onnxruntime-gpu's wheels are made for CUDA 13 and cuDNN 9 -----------
# The packages are installed by the Python of Ubuntu 24.04, which the run-time images get as well.
FROM ${CUDA_BUILD_IMAGE} AS gpu-packages
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ gcc libc6-dev python3 python3-pip python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv --without-pip /opt/venv
WORKDIR /app

FROM gpu-packages AS worker-gpu-sources
COPY --from=worker-sources /app /app
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM gpu-packages AS llama-wheel-gpu
COPY requirements/build.txt requirements/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --only-binary :all: --require-hashes --requirement requirements/build.txt \
 && echo 'set(LLAMA_BUILD_COMMON OFF)' >/opt/no_common.cmake
COPY requirements/llama.txt requirements/
# Turing to Blackwell; one's own alone (nvidia-smi --query-gpu=compute_cap) builds many times faster.
ARG CUDA_ARCHITECTURES="75;80;86;89;90;100;120"
# Without CUDA's virtual memory llama.cpp needs nothing of the driver, which no build container has.
ENV CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=/opt/no_common.cmake -DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_CUDA=ON -DGGML_CUDA_NO_VMM=ON" \
    SKBUILD_BUILD_DIR=/opt/llama/build \
    SKBUILD_WHEEL_EXCLUDE="lib/**"
RUN PATH="/opt/tools/bin:$PATH" /opt/tools/bin/pip download --no-binary :all: --no-build-isolation --no-deps \
      --require-hashes --requirement requirements/llama.txt --dest /opt/llama \
 && mkdir /opt/llama/source \
 && tar --extract --strip-components 1 --directory /opt/llama/source --file /opt/llama/*.tar.gz
RUN CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" PATH="/opt/tools/bin:$PATH" \
    CMAKE_ARGS="$CMAKE_ARGS -DCMAKE_CUDA_ARCHITECTURES=$CUDA_ARCHITECTURES" \
    /opt/tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /opt/wheels /opt/llama/source

FROM gpu-packages AS worker-llama-gpu-packages
COPY requirements/worker-llama.txt requirements/
COPY --from=llama-wheel-gpu /opt/wheels /opt/wheels
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --only-binary :all: --require-hashes \
      --requirement requirements/worker-llama.txt \
 && python3 -m pip --python /opt/venv/bin/python install --no-compile --no-deps --no-index \
      --find-links /opt/wheels llama-cpp-python \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM gpu-packages AS worker-onnx-gpu-packages
COPY requirements/worker-onnx-gpu.txt requirements/
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --only-binary :all: --require-hashes \
      --requirement requirements/worker-onnx-gpu.txt \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${CUDA_IMAGE} AS worker-llama-gpu
LABEL org.opencontainers.image.title="inference-mesh worker, llama.cpp with CUDA" org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log
ENV HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=worker-llama-gpu-packages /opt/venv /opt/venv
COPY --from=tiny-chat /models /models
COPY --from=worker-gpu-sources /app /app
USER 10001:10001
EXPOSE 50051 8080
ENTRYPOINT ["/opt/venv/bin/python", "-m", "workers"]

FROM ${CUDNN_IMAGE} AS worker-onnx-gpu
LABEL org.opencontainers.image.title="inference-mesh worker, ONNX Runtime with CUDA" org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log
ENV HOME=/tmp \
    LANG=C.UTF-8 \
    MESH_WORKER_PROVIDER=cuda \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=worker-onnx-gpu-packages /opt/venv /opt/venv
COPY --from=minilm /models /models
COPY --from=worker-gpu-sources /app /app
USER 10001:10001
EXPOSE 50051 8080
ENTRYPOINT ["/opt/venv/bin/python", "-m", "workers"]
