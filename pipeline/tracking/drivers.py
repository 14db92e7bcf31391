"""The packages that talk to database servers, named where an address leaves that open."""

from pipeline.errors import ConfigError
from pipeline.redaction import redact

REMEDIES = {"psycopg": "'psycopg[binary]'", "MySQLdb": "mysqlclient"}
"""What to install for a package that talks to a database, where that is not its own name."""


def with_driver(key: str, url: str) -> str:
    """Return the address of a database server with a driver that is installed.

    SQLAlchemy's own choice for `postgresql://` depends on its version; ours is psycopg.

    Args:
        key: Where the address comes from.
        url: The address.

    Raises:
        ConfigError: The driver is missing, or the address can't be read.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    scheme, _, rest = url.partition("://")
    named = f"postgresql+psycopg://{rest}" if scheme == "postgresql" else url
    try:
        make_url(named).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        package = str(error.name)
        raise ConfigError(
            f"{key}={redact(url)!r} needs the package {package!r}, which is not "
            f"installed; install it with: pip install {REMEDIES.get(package, package)}"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        text = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"{key}={redact(url)!r} can't be read: {redact(text)}") from error
    return named
