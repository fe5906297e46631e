"""Tools of the Model Context Protocol over an agent's key: the extra ``[mcp]``.

``server`` makes them for whoever serves; ``stdio`` serves them to one host on its own machine.
"""
