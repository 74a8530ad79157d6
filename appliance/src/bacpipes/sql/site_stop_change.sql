-- One row where that changed anything.
UPDATE site_stop SET stopped = %(stopped)s, since = now(), actor = %(actor)s, reason = %(reason)s
WHERE stopped <> %(stopped)s
