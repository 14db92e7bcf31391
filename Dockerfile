# One image for the workers, MLflow's server and Optuna's dashboard; docker-compose.yml starts it.
ARG PYTHON_IMAGE=python:3.11.14-slim-trixie

# Empty, unless a folder of wheels is given by this name (docs/how-to/compose.md).
FROM scratch AS wheels

FROM ${PYTHON_IMAGE} AS build
# Index of the CPU version of torch; empty = PyPI's CUDA version.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_PYTHON=/opt/venv/bin/python
RUN python -m venv --without-pip /opt/venv
WORKDIR /src
COPY docker/requirements.py pyproject.toml constraints.txt ./
# Machine-specific pip settings are mounted for this step and are in no layer.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/run/secrets/ca.pem \
    --mount=type=bind,from=wheels,target=/wheels \
    python requirements.py dashboard postgres server > requirements.txt \
    && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
       --constraint constraints.txt --requirement requirements.txt
COPY LICENSE README.md ./
COPY conf conf
COPY sweeps sweeps
COPY pipeline pipeline
RUN pip install --no-deps --no-index --no-build-isolation .

FROM ${PYTHON_IMAGE}
RUN python -m pip uninstall --yes --root-user-action=ignore pip setuptools wheel \
    && useradd --uid 10001 --user-group --home-dir /tmp --no-create-home pipeline \
    && install -d -o pipeline -g pipeline /work \
    && install -d -m 0750 -o pipeline -g pipeline /mlartifacts
COPY --from=build /opt/venv /opt/venv
COPY docker/mlflow_auth.ini docker/mlflow_server.sh docker/prepare_databases.py docker/probe.py \
    /opt/pipeline/
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 MLFLOW_DISABLE_TELEMETRY=true
USER 10001:10001
WORKDIR /work
CMD ["python", "-m", "pipeline"]
