"""Every address of the gateway, described beside the handler that answers it."""
