"""What this package adds to umbel: brokers whose URL begins with ``directory://``.

Every process of everybody who has it installed imports this module. The broker is light; one that
needs a client library imports it in a function, when it is asked for.
"""

from umbel.hookspecs import hookimpl
from umbel.interfaces.broker import BrokerFactory
from umbel_broker_directory.broker import DirectoryBroker


@hookimpl
def umbel_brokers() -> dict[str, BrokerFactory]:
    """Offer the broker."""
    return {"directory": DirectoryBroker}
