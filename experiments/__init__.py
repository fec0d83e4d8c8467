"""The declared tables, one file each: values whose docstrings give command, cost and expected scores."""

# Names for the command; a user's own table is a Python file and needs no line here.
TABLES = {
    "demo": "experiments.demo:DEMO",
    "camvid": "experiments.camvid:CAMVID",
    "table1": "experiments.table1:TABLE1",
}
