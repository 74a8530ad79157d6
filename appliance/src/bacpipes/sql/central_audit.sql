-- What contradicts earlier heads of a site's audit chain and was not accepted yet, newest first.
SELECT k.received_at, k.id, encode(k.hash, 'hex'), k.contradiction FROM site_audit k
WHERE k.site_id = %(site)s AND k.contradiction IS NOT NULL
  AND k.received_at > (SELECT coalesce(max(a.at), '-infinity') FROM site_audit_accepted a WHERE a.site_id = k.site_id)
ORDER BY k.received_at DESC
