"""What both stores say of a study whose trials are kept on a PostgreSQL server."""

import json
from dataclasses import dataclass, field
from typing import Any

from postgres import Postgres

from faults.study_records import Records, Trial


@dataclass(frozen=True, slots=True)
class ServerRecords(Records):
    """Both stores of one study, Optuna's on a server.

    Args:
        postgres: The server.
        database: Its database of studies.
    """

    postgres: Postgres = field(kw_only=True)
    database: str = field(kw_only=True)

    def trials(self) -> list[Trial]:
        """Return the study's trials by number; none before the study is there."""
        if not self._ask("SELECT 1 FROM pg_tables WHERE tablename = 'alembic_version'"):
            return []
        found = self._ask(
            "SELECT trial_id, number, state FROM trials JOIN studies USING (study_id) "
            f"WHERE study_name = '{self.name}' ORDER BY number"
        )
        return [self._trial(*row) for row in found]

    def _trial(self, trial_id: int, number: int, state: str) -> Trial:
        where = f"WHERE trial_id = {trial_id}"
        notes = self._ask(f"SELECT key, value_json FROM trial_user_attributes {where}")
        params = self._ask(f"SELECT param_name, param_value FROM trial_params {where}")
        values = self._ask(f"SELECT value FROM trial_values {where}")
        return Trial(
            number=number,
            state=state,
            attributes={key: json.loads(value) for key, value in notes},
            params=dict(params),
            values=tuple(value for (value,) in values),
        )

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.postgres.ask(self.database, query)
