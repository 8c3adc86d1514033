"""The command-line tools: flags to a frozen config to one library call. Installed as `tfqnas_tools`."""
