"""The pipeline's stages, one function each, chained through the stage cache.

    supernet -> train -> search -> compile -> deploy -> serve

Each takes a Workspace and the artifact before it, and leaves an inspectable content-addressed folder; asking again for
the same thing is a cache hit. The commands and the demo call these functions and nothing else.
"""
