"""Equal latency: our subnets and other people's small networks on one training budget, at equal measured latency.

`headline.run` is the whole comparison; the accuracy benchmark runs it as its last stage.
"""
