"""One attempt (the wires) and what stands before it (the gate). Nothing above knows of aiohttp."""
