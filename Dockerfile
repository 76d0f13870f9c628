# Two stages: what is needed to install stays behind. The image runs as a user without rights, and writes only to
# /var/lib/driftd, where SQLite's file lies unless the store is PostgreSQL.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY detectors detectors
COPY fallback fallback
COPY monitor monitor
RUN python -m venv /opt/driftd \
    && /opt/driftd/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.12-slim
COPY --from=build /opt/driftd /opt/driftd
RUN useradd --system --uid 10001 --home-dir /var/lib/driftd --create-home driftd
# By number: an orchestrator can see that it is not root.
USER 10001
WORKDIR /var/lib/driftd
# A container is reached from outside, unless the configuration has another http.host.
ENV PATH=/opt/driftd/bin:$PATH PYTHONUNBUFFERED=1 DRIFTD_HTTP_HOST=0.0.0.0
EXPOSE 9464
# Give the configuration with: -v ./driftd.yaml:/etc/driftd/driftd.yaml:ro
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/-/healthy', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["driftd"]
CMD ["run", "--config", "/etc/driftd/driftd.yaml", "--log-format", "json"]
