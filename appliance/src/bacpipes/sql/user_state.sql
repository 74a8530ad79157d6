UPDATE app_user SET disabled_at = CASE WHEN %(disabled)s THEN coalesce(disabled_at, now()) END
WHERE name = %(name)s
RETURNING id
