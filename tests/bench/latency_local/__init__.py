"""How well latency of real subnets is predicted on this machine, in several contexts, and what knowing it costs."""
