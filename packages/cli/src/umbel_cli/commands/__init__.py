"""The sub-commands of this package, one file each; imported when they are used."""
