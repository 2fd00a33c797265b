# semask serve on a CPU. docs/serve.md says how to build and run it.
#
#     docker build --tag semask .
#     docker run --rm --publish 8000:8000 --env SEMASK_TOKEN semask
#
# PyPI's wheels of torch for Linux bring CUDA. For a smaller image name an index with wheels for CPUs:
#     docker build --build-arg INDEX=https://... --tag semask .

FROM python:3.12-slim AS build
ARG INDEX
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY semask semask
RUN python -m venv /opt/semask \
    && /opt/semask/bin/pip install --no-cache-dir ${INDEX:+--extra-index-url "$INDEX"} ".[serve,labels,geo,export]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home --shell /usr/sbin/nologin semask
COPY --from=build /opt/semask /opt/semask
ENV PATH=/opt/semask/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /home/semask
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# The token comes from the environment variable SEMASK_TOKEN or a mounted file (--token_file); none is in the image.
ENTRYPOINT ["semask", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["street"]
