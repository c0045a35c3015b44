"""The `umbel` command. Sub-commands come through the hook in `umbel_cli.hookspecs`."""
