-- What leaves the site is a matter of each point; and the audit's head goes to central, so that a chain that was made
-- anew shows there.

-- Which readings are published by MQTT. NULL: the site's default (BACPIPES_PUBLISH_…).
ALTER TABLE point
    ADD COLUMN publish           text CHECK (publish IN ('every', 'change')),
    ADD COLUMN deadband          double precision CHECK (deadband >= 0 AND deadband < 'Infinity'),  -- NULL: 0
    ADD COLUMN heartbeat_seconds integer CHECK (heartbeat_seconds BETWEEN 1 AND 86400);

-- The last published reading of each point that is published on change. It moves with the publisher's cursor, in one
-- transaction, so that what the policy selects is the same whenever the worker is started again.
CREATE TABLE published (
    point_id         integer PRIMARY KEY REFERENCES point,
    time             timestamptz NOT NULL,
    value            double precision,
    quality          smallint NOT NULL
) WITH (fillfactor = 60);
