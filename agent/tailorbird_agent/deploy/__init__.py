"""Deployment: a pure state machine (`machine`), the rules a bundle must meet (`compatible`), what acts (`runner`)."""
