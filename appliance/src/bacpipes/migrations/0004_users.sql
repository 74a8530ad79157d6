-- People who use the page. They are disabled, never deleted: the audit trail names them.
CREATE TABLE app_user (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
    role             text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password         text NOT NULL,                  -- argon2id, with its parameters and salt
    created_at       timestamptz NOT NULL DEFAULT now(),
    password_at      timestamptz NOT NULL DEFAULT now(),
    disabled_at      timestamptz
);

-- Logins in force. Only the SHA-256 of a 256-bit random secret is kept; the secret is the browser's cookie.
CREATE TABLE app_session (
    digest           bytea PRIMARY KEY,
    user_id          integer NOT NULL REFERENCES app_user,
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    ip               text
);
CREATE INDEX app_session_user ON app_session (user_id);

-- The one-time token with which the first admin is made (`bacpipes user first`). One row at most; using it deletes it.
CREATE TABLE first_user_token (
    id               boolean PRIMARY KEY DEFAULT true CHECK (id),
    digest           bytea NOT NULL,
    expires_at       timestamptz NOT NULL
);
