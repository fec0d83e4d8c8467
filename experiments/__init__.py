"""The declared tables, one file each: values whose docstrings give command, cost and expected scores."""

# Names for the command; a user's own table is a Python file and needs no line here.
TABLES = {
    "demo": "experiments.demo:DEMO",
    "demo_methods": "experiments.methods_demo:DEMO_METHODS",
    "camvid": "experiments.camvid:CAMVID",
    "table1": "experiments.table1:TABLE1",
    "table1_as_published": "experiments.table1:TABLE1_AS_PUBLISHED",
    "ablation_blocks": "experiments.ablation_blocks:ABLATION_BLOCKS",
}
