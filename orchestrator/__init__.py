"""The room that plans cells and runs them: the only one that knows Ray and MLflow."""
