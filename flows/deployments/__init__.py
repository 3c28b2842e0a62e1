"""Deployments: which flows run when and with what, from one settings file that is checked before it is registered."""
