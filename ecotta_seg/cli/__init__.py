"""The parts of the tools: commands, arguments, and the loading of the package."""
