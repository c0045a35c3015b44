"""What comes with core: embedded brokers, backends and coordinators, pools, the JSON serializer.

They are offered through core's own entry point, by the hooks that any plugin uses.
"""
