"""The declared tables, one file each; values, no torch and no ray."""
