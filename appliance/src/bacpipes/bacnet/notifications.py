"""Change-of-value notifications (ASHRAE 135, clauses 13.6 and 13.7) that come in, handed to whoever asked for them.

A notification counts only where it comes from the address that was asked, with the number under which it was asked,
and for that object. Anything else is counted; a confirmed one is refused, so that its sender stops.
"""

from collections.abc import Callable
from typing import Any

from bacpypes3.apdu import SimpleAckPDU
from bacpypes3.errors import ServicesError
from bacpypes3.primitivedata import Atomic
from bacpypes3.vendor import get_vendor_info

Values = dict[str, Any]  # property → value as bacpypes3 has it
Listener = Callable[[Values], None]
ObjectId = tuple[str, int]


class Notifications:
    """Part of the BACnet application; bacpypes3's own contexts are not used (see docs/architecture.md)."""

    _listeners: dict[tuple[str, int], tuple[ObjectId, Listener]]
    strays = 0  # notifications that nobody asked for, or that can't be read
    response: Any

    def listen(self, address: str, process: int, object_id: ObjectId, listener: Listener) -> None:
        """Hand on what ``address`` says of an object under our number ``process``."""
        self._all()[address, process] = (object_id, listener)

    def unlisten(self, address: str, process: int) -> None:
        """No more of it."""
        self._all().pop((address, process), None)

    async def do_ConfirmedCOVNotificationRequest(self, apdu: Any) -> None:  # noqa: N802 - bacpypes3's naming
        """Take it and acknowledge, or refuse it."""
        if not self._take(apdu):
            raise ServicesError(errorCode="unknownSubscription")
        await self.response(SimpleAckPDU(context=apdu))

    async def do_UnconfirmedCOVNotificationRequest(self, apdu: Any) -> None:  # noqa: N802
        """Take it, or drop it."""
        self._take(apdu)

    def _all(self) -> dict[tuple[str, int], tuple[ObjectId, Listener]]:
        if not hasattr(self, "_listeners"):
            self._listeners = {}
        return self._listeners

    def _take(self, apdu: Any) -> bool:
        try:
            source, process = str(apdu.pduSource), int(apdu.subscriberProcessIdentifier)
            object_id, listener = self._all()[source, process]
            told = apdu.monitoredObjectIdentifier
            if (str(told[0]), int(told[1])) != object_id:
                raise KeyError(object_id)
            values = dict(_value(told[0], element) for element in apdu.listOfValues)
        except Exception:  # noqa: BLE001 - whatever a damaged one makes bacpypes3 raise
            self.strays += 1
            return False
        listener(values)
        return True


def _value(object_type: Any, element: Any) -> tuple[str, Any]:
    kind = get_vendor_info(0).get_object_class(object_type).get_property_type(element.propertyIdentifier)
    return str(element.propertyIdentifier), element.value.cast_out(kind, null=issubclass(kind, Atomic))
