-- What the page sets for the site. A row stands in for a setting's default, never for what the environment sets.
CREATE TABLE setting (
    name             text PRIMARY KEY,               -- the field of Settings
    value            text NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON setting FOR EACH STATEMENT EXECUTE FUNCTION tell();
