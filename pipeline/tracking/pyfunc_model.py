"""What MLflow runs to answer with a recorded model: it goes along with each as its code."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.serving.files import FOLDER
from pipeline.tracking.models import TRUST


class RecordedModel(PythonModel):
    """Answers for raw rows as `python -m pipeline.predict` does."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model, once, from the files that came with it."""
        from pipeline.serving.model import Model

        trust = (context.model_config or {}).get(TRUST, ())
        self._model = Model.load(Path(context.artifacts[FOLDER]), trust=trust)

    # MLflow reads these hints and warns of any that it does not know; an array is taken too.
    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return a row of answers for each row of the input; of a series, the rows after it."""
        from pipeline.serving.frames import predict_frame

        del context, params
        try:
            return predict_frame(self._model, model_input)
        except ValueError as error:  # else a server would answer with a traceback
            raise MlflowException.invalid_parameter_value(str(error)) from error


set_model(RecordedModel())
