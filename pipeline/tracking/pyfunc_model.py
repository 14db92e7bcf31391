"""Code that MLflow runs to serve a recorded model; a copy is stored with each model."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.serving.files import FOLDER
from pipeline.tracking.models import TRUST


class PyfuncModel(PythonModel):
    """Predicts from raw rows as `pipeline predict` does."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model from the files that were stored with it."""
        from pipeline.serving.model import Model

        trust = (context.model_config or {}).get(TRUST, ())
        self._model = Model.load(Path(context.artifacts[FOLDER]), trust=trust)

    # MLflow reads these type hints and warns of unknown ones; an array is accepted, too.
    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return a row of predictions for each input row; for a series, the rows that follow it."""
        from pipeline.serving.frames import predict_frame

        del context, params
        try:
            return predict_frame(self._model, model_input)
        except ValueError as error:  # otherwise a server would answer with a traceback
            raise MlflowException.invalid_parameter_value(str(error)) from error


set_model(PyfuncModel())
