# syntax=docker/dockerfile:1
# Python 3.12 and Debian "slim": every locked package has a wheel for glibc and 3.12, so nothing is compiled here and no
# compiler is in the image; 3.12 gets security fixes until 2028. (Alpine's musl would need other wheels, nats-server's too.)
# Pin the digest of the base image in your own builds: --build-arg BASE=python:3.12-slim@sha256:…
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# The whole lock, hash by hash, in an environment that stays behind: it builds the wheel and says what of the lock runs
# the program.
COPY requirements.lock ./
RUN python -m venv /tooling && /tooling/bin/pip install --quiet --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY adapters adapters
COPY bus bus
COPY config config
COPY console console
COPY evidence evidence
COPY registry registry
COPY schemas schemas
RUN /tooling/bin/pip install --quiet --no-deps --no-build-isolation -e . \
 && /tooling/bin/python -m console.bundle --runtime-lock > /runtime.lock \
 && /tooling/bin/python -m hatchling build -t wheel -d /dist
RUN python -m venv --without-pip /opt/lienthong \
 && pip --python /opt/lienthong/bin/python install --quiet --no-deps --only-binary :all: --require-hashes -r /runtime.lock \
 && pip --python /opt/lienthong/bin/python install --quiet --no-deps --no-index /dist/*.whl \
 && /opt/lienthong/bin/python -m compileall -q /opt/lienthong/lib

FROM ${BASE}
RUN groupadd --system --gid 10001 lienthong \
 && useradd --system --uid 10001 --gid lienthong --home-dir /var/lib/lienthong --shell /usr/sbin/nologin lienthong \
 && install -d -o lienthong -g lienthong -m 0700 /var/lib/lienthong
COPY --from=build /opt/lienthong /opt/lienthong
# Runs with a read-only root file system: only the volume is written (docker run --read-only).
ENV PATH=/opt/lienthong/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/var/lib/lienthong \
    LIENTHONG_HEALTH=http://127.0.0.1:9443/readyz
USER lienthong
WORKDIR /var/lib/lienthong
VOLUME /var/lib/lienthong
# 8443 client systems, 9443 operators, 4222 broker, 8470 registry
EXPOSE 8443 9443 4222 8470
# For the registry set LIENTHONG_HEALTH=https://127.0.0.1:8470/readyz and LIENTHONG_HEALTH_CA to INSTANCE/ca/ca.crt; for the
# broker switch it off (--no-healthcheck).
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD python -m console.health "$LIENTHONG_HEALTH"
STOPSIGNAL SIGTERM
ENTRYPOINT ["lienthong"]
CMD ["--help"]
