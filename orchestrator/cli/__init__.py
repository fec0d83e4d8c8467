"""The command `mixgrid`, a module per group of commands."""
