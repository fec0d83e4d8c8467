"""The training room: one trial, blind to Ray, MLflow and to other trials."""
