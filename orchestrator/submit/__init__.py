"""Handing a table to a cluster: what is sent is rendered by pure functions, thin ones send it."""
