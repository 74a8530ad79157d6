"""BACnet/IP: our client on bacpypes3's stack, and what is faster than it."""
