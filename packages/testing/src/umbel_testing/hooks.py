"""The entry point of umbel-testing: it adds nothing to an app, and `umbel plugins` lists it."""
