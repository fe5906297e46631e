# The image of `coordinator serve` and `coordinator worker`; docs/operations.md says how to use it.
FROM python:3.12-slim AS build
WORKDIR /source
COPY scripts/locks/build.txt scripts/locks/runtime.txt scripts/locks/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r scripts/locks/build.txt \
    && python -m venv /opt/coordinator \
    && /opt/coordinator/bin/pip install --no-cache-dir --require-hashes -r scripts/locks/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY coordinator coordinator
COPY client client
COPY contracts/artifacts contracts/artifacts
COPY contracts/deployments contracts/deployments
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . ./client \
    && /opt/coordinator/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/coordinator coordinator \
    && install --directory --owner 10001 --group 10001 --mode 700 /var/lib/coordinator
COPY --from=build /opt/coordinator /opt/coordinator
ENV PATH=/opt/coordinator/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/coordinator
EXPOSE 8402
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8402/readyz', timeout=4)"]
CMD ["coordinator", "serve", "--host", "0.0.0.0", "--port", "8402"]
