"""The HTTP service of the appliance: export, points, writes, metrics, health."""
