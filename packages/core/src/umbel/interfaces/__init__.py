"""What plugins implement: one abstract class a kind, one module each."""
