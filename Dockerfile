# The worker and nothing else: no compiler, no shell needed, no secret. Keys come at run time, as a mounted file.
#
#   docker build -t permutive-worker .
#   docker build -t permutive-worker --build-arg EXTRAS="redis kafka" .     # for queues; see pyproject.toml
#   docker run --rm permutive-worker --help

ARG PYTHON_TAG=3.13-slim

FROM python:${PYTHON_TAG} AS build
ARG EXTRAS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/venv
# Before the sources, so that a change of code does not fetch the dependencies again.
COPY requirements.lock .
COPY deploy/locks deploy/locks
RUN IFS=', '; set -- -r requirements.lock; \
    for extra in $EXTRAS; do set -- "$@" -r "deploy/locks/$extra.lock"; done; \
    /opt/venv/bin/pip install --require-hashes --only-binary=:all: "$@"
COPY pyproject.toml README.md LICENSE ./
COPY permutive_worker permutive_worker
RUN python -m pip wheel --no-deps --wheel-dir /wheels . \
    && /opt/venv/bin/pip install --no-deps /wheels/*.whl \
    && /opt/venv/bin/pip check \
    && /opt/venv/bin/pip uninstall --yes pip

FROM python:${PYTHON_TAG}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="permutive-worker" \
      org.opencontainers.image.description="Delivers identify and segmentation jobs to the Permutive API, without losing a line." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Dead letters and checkpoints, the only folder that is written to; the root may be read-only.
RUN install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/venv /opt/venv
# The admin server is on, and not on loopback alone: whoever probes or scrapes is outside the container.
# An empty value turns it off.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PERMUTIVE_WORKER_ADMIN__LISTEN=0.0.0.0:9000
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 9000
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["python", "-m", "permutive_worker.cli.livez"]
ENTRYPOINT ["permutive-worker"]
