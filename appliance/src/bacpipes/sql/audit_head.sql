SELECT h.id, h.hash, (SELECT a.hash FROM audit a WHERE a.id = %(known)s), h.at FROM audit_head h
