"""How fast the parts of training are, each beside a plain reference in the same run. Loads no ray, mlflow or pandas."""
