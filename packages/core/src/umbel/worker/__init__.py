"""The worker: supervisor, consumers, executors. Client code never imports this package."""
