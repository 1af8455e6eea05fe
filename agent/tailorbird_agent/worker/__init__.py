"""Worker processes: models are loaded, served and measured in children of the daemon, never in the daemon.

    daemon side (asyncio, no numpy)        child side (`python -m tailorbird_agent.worker`)
    plan       what to serve or measure    sandbox  limits, set before anything is loaded
    process    start, watch, kill          serve    one ladder, one request after the other
    arena      tensors in shared memory    ladder   load, warm, check, switch
    channel    messages and descriptors    measure  candidates and device figures
    serving, measuring

A worker's end costs that worker's requests and nothing else.
"""
