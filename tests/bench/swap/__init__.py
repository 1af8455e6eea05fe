"""Swaps under load: python -m tests.bench.swap --json FILE [--suite quick|full] [--work FOLDER] [--stages NAME,...].

A real agent serves ladders of real subnets to stock clients (tritonclient) in two other processes, while bundles are
deployed and deadlines swing, so that the policy goes from rung to rung. Every answer is held to what torch computes for
the rung that the answer claims to come from.

    settings     suites: how much of everything
    ladders      subnets of one SuperNet, compiled, packed and compared with each other
    client       the stock client: a process of its own
    traffic      a piece of the load: clients, deployments, the events of the agent
    rungs        one caller: what a switch costs the next request, what a rung costs that is not in memory, memory
    loadgen      MLPerf LoadGen while rungs change every 20 ms and bundles follow each other
    kills        SIGKILL at random moments of deployments and requests
    judging      figures, targets, and which of them are met

Every stage, and every piece of the load, is a file in the work folder: a run that was stopped goes on from there.
"""
