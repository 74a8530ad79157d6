"""Central: the database that holds many sites, its service, and what a site and central do together."""
