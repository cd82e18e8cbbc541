# The BIDS App: docker run --rm -v /bids:/data:ro -v /results:/out IMAGE /data /out participant
FROM docker.io/library/python:3.11-slim-bookworm AS base

FROM base AS build
# Where pip finds torch; empty for its default. docs/containers.md says which index has which build.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /opt/cascade_bids/env
ENV PATH=/opt/cascade_bids/env/bin:$PATH
COPY constraints.txt ./
# What torch needs comes with the rest, from pip's default.
RUN pip install --constraint constraints.txt "setuptools>=77" \
 && pip install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
        "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml version LICENSE README.md ./
COPY cascade_bids cascade_bids
# pip goes last: nothing is installed at run time. Tests of the libraries are a tenth of the image.
RUN pip install --constraint constraints.txt --no-build-isolation . \
 && pip check \
 && pip uninstall --yes setuptools pip \
 && find /opt/cascade_bids/env -type d -name tests -path '*/site-packages/*' -prune -exec rm -r {} +
COPY run.py /opt/cascade_bids/run.py

FROM base
LABEL org.opencontainers.image.title="cascade_bids" \
      org.opencontainers.image.description="A BIDS App that finds multiple-sclerosis lesions in brain MRI" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /opt/cascade_bids /opt/cascade_bids
# Any user may run it, also one without a home: all that libraries would keep there goes to /tmp.
ENV PATH=/opt/cascade_bids/env/bin:$PATH \
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache \
    PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1
ENTRYPOINT ["/opt/cascade_bids/run.py"]
