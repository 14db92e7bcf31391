"""Creates the databases that the services share, and brings an older one up to date.

It runs once before each start, so that no two services make the same tables at the same moment.
The password is that of PGPASSWORD.
"""

import subprocess
import sys

import psycopg
from optuna.storages import RDBStorage

SERVER = "pipeline@postgres"
URL = f"postgresql+psycopg://{SERVER}/"
MADE_BY_POSTGRES = "optuna"
DATABASES = ("mlflow", "mlflow_auth")


def create(name: str) -> None:
    """Create a database unless it is there."""
    address = f"postgresql://{SERVER}/{MADE_BY_POSTGRES}"
    with psycopg.connect(address, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if known.fetchone() is None:
            connection.execute(f"CREATE DATABASE {name}")


def upgrade(*words: str) -> None:
    """Call a command of MLflow's that makes its tables or changes them to those of its version."""
    subprocess.run([sys.executable, "-m", *words], check=True)


for database in DATABASES:
    create(database)
RDBStorage(f"{URL}{MADE_BY_POSTGRES}", skip_compatibility_check=True).upgrade()
upgrade("mlflow", "db", "upgrade", f"{URL}mlflow")
upgrade("mlflow.server.auth", "db", "upgrade", "--url", f"{URL}mlflow_auth")
