"""What tests of the agent share: small real bundles, and a real agent as a process of its own."""
