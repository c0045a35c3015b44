"""Publishing: a call made into a message, and the message handed to the broker."""
