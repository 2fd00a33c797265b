# semask serve on a CPU. docs/serve.md says how to build and run it.
#
#     docker build --tag semask .
#     docker run --rm --publish 127.0.0.1:8000:8000 --env SEMASK_TOKEN --stop-timeout 45 semask
#
# PyPI's wheels of torch for Linux bring gigabytes of CUDA. For a small image name an index with wheels for CPUs:
#     docker build --build-arg INDEX=https://... --tag semask .
# EXTRAS=serve serves models of torch as JSON, PNG and npy; labels and geo add forms of answers, export adds engines.

FROM python:3.12-slim AS build
ARG INDEX
ARG EXTRAS=serve,labels,geo,export
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY semask semask
# The versions that the tests run with. Their hashes are left out: pip wants one of each file then, and a folder has none.
RUN sed '/--hash=/d; s/ *\\$//' constraints.txt > versions.txt \
    && python -m venv /opt/semask \
    && /opt/semask/bin/pip install --no-cache-dir ${INDEX:+--extra-index-url "$INDEX"} --constraint versions.txt ".[$EXTRAS]"

FROM python:3.12-slim
# GDAL in the wheels of rasterio needs libexpat, which a slim image may not have.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin semask
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
