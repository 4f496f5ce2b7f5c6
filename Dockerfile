# syntax=docker/dockerfile:1
# docker build --target cpu  -t cascade:cpu  .
# docker build --target cuda -t cascade:cuda .
# Both install as the Makefile does: pip, from pyproject.toml, with the extra `cpu` or `gpu`.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
WORKDIR /src
COPY . .

# PyTorch's own index holds the builds without CUDA (a tenth of the size); a local version such as
# 2.13.0+cpu is preferred to the plain one.
FROM build AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/venv/bin/pip install --extra-index-url "${TORCH_INDEX}" '.[cpu]'

# torch from PyPI brings its CUDA libraries as wheels; the host brings the driver.
FROM build AS build-cuda
RUN /opt/venv/bin/pip install '.[gpu]'

FROM python:${PYTHON}-slim AS runtime
RUN apt-get update \
 && apt-get install --no-install-recommends --yes libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home cascade \
 && install --directory --owner cascade --group cascade /data
# One process a core: more torch threads than that only wait for each other.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 CASCADE_DATA_DIR=/data
USER cascade
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["cascade", "serve", "--host", "0.0.0.0", "--port", "8000", "--data-dir", "/data"]

FROM runtime AS cuda
COPY --from=build-cuda /opt/venv /opt/venv
ENV CASCADE_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The last stage is what `docker build .` makes.
FROM runtime AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
ENV CASCADE_DEVICE=cpu
