#!/bin/sh
# Starts MLflow's server with the given options. The key signs its own forms, for as long as it runs.
MLFLOW_FLASK_SERVER_SECRET_KEY=$(head -c 32 /dev/urandom | base64)
export MLFLOW_FLASK_SERVER_SECRET_KEY
exec mlflow server "$@"
